"""Doubts about a draft: columns that could as well have been chosen, which a person has to decide."""

from collections.abc import Sequence

from training.data.task_init.columns import LABEL_NAMES, PAIRS, TEXT_NAMES, Column, could_be_labels

_GENERIC_NAMES = ("label", "labels", "label_text", "class", "target")
"""Names that mean the label even if another column has the name of one, such as `topic`."""
_MOST_DISTINCT = 0.5
"""The share of distinct values above which a column of texts is not one of classes."""
_AS_LONG = 0.5
"""The share of the chosen column's mean length from which another text is as likely to be meant."""


def label_doubt(columns: Sequence[Column], label: Column) -> str | None:
    """Return why the choice of the label column is not certain, or None."""
    if label.class_names or label.is_listed:
        return None
    if not label.is_numeric and label.distinct_share > _MOST_DISTINCT:
        return (
            f"column {label.name!r} has {label.num_distinct} distinct values in {label.counts.total()} rows, which are "
            "too many for labels"
        )
    name = label.name.lower()
    if name in _GENERIC_NAMES:
        return None
    usable = [column for column in columns if could_be_labels(column) and column.distinct_share <= _MOST_DISTINCT]
    if name in LABEL_NAMES:
        others = [column for column in usable if column.name.lower() in LABEL_NAMES]
    else:
        others = [column for column in usable if column.mean_words <= 5]
    return _several("label", [label, *(column for column in others if column.name != label.name)])


def text_doubt(columns: Sequence[Column], label: Column, texts: Sequence[Column]) -> str | None:
    """Return why the choice of the text columns is not certain, or None."""
    names = tuple(column.name.lower() for column in texts)
    if names in PAIRS:
        return None
    (text,) = texts
    if text.num_distinct <= min(10, text.counts.total() / 2):
        return f"no column looks like a text: {text.name!r} has {text.num_distinct} distinct values"
    if text.name.lower() in TEXT_NAMES:
        return None
    others = [
        column
        for column in columns
        if column.is_text
        and column.name not in (label.name, text.name)
        and column.mean_words >= _AS_LONG * text.mean_words
        and column.distinct_share > _MOST_DISTINCT
    ]
    return _several("text", [text, *others])


def _several(what: str, columns: Sequence[Column]) -> str | None:
    if len(columns) == 1:
        return None
    found = ", ".join(f"{column.name!r} ({column.num_distinct} distinct values)" for column in columns)
    return f"several columns could be the {what}: {found}"
