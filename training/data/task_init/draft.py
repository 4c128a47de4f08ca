"""`draft_task`: guesses everything in a task file from its rows, with the reason for each guess."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from adapters.task import Kind
from adapters.template import Template
from training.data.formats import UTF_8, Reading, class_names, raw_rows
from training.data.missing import MISSING_WORDS, is_missing
from training.data.sources import RowSources
from training.data.task_init.columns import Column, LabelSet, columns_of, label_column, label_set, text_columns
from training.data.task_init.doubts import label_doubt, text_doubt
from training.errors import InvalidData
from training.task.scoring import MetricName

_KINDS: Mapping[Kind, str] = {
    "single_label": "labels are names",
    "ordinal": "labels are numbers in order",
    "multi_label": "a row has several labels",
}
MAX_DRAFTED_TOKENS = 512
_SAMPLED_ROWS = 20_000
_RARE = 5
"""The ratio of the most common to the rarest label from which accuracy alone is misleading."""


@dataclass(frozen=True, slots=True)
class Guess:
    """One guess with its reason."""

    what: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The contents of a task file to be written."""

    name: str
    template: str
    columns: dict[str, str]
    """The column of each field whose column is not named like the field."""
    label: str
    labels: LabelSet
    metrics: tuple[MetricName, ...]
    max_tokens: int
    source: dict[str, str]
    """`train` and `validation`, `directory`, or `hub` and `revision`."""
    guesses: tuple[Guess, ...]
    to_edit: tuple[str, ...] = field(default=())
    """Hints for the author, to be checked before training."""
    doubts: tuple[str, ...] = ()
    """Choices of columns that the rows do not decide; also among the hints."""


def draft_task(
    sources: RowSources,
    source: Mapping[str, str],
    *,
    name: str,
    token_ids: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    can_tell_apart: Callable[[Sequence[str]], bool],
    label: str | None = None,
    text: Sequence[str] = (),
    columns: Sequence[Column] | None = None,
) -> Draft:
    """Guess a task from its training rows.

    Args:
        source: the entries of the task file's `data` that locate the rows and say how they are read
        token_ids: returns the backbone's token ids of users' texts, the end-of-sequence token included
        can_tell_apart: whether the backbone's tokenizer gives label words different token ids
        label: the column of the label, guessed if omitted
        text: the columns of the text, in the template's order; guessed if omitted
        columns: the columns of the training rows, read from `sources` if omitted

    Raises:
        InvalidData: a file cannot be read, or no column qualifies as text or label
    """
    readings: list[Reading] = []
    columns = _columns(sources, source, readings.append) if columns is None else columns
    labelled, why_label = label_column(columns, label)
    texts, why_text = text_columns(columns, labelled, text)
    if labelled.name in {column.name for column in texts}:
        raise InvalidData(f"column {labelled.name!r} is both label and text; name others with --label and --text")
    labels = label_set(labelled, can_tell_apart)
    template, fields = _template(texts)
    max_tokens, why_tokens = _max_tokens(template, texts, token_ids)
    metrics, why_metrics = _metrics(labels, labelled)
    left_out = [column.name for column in columns if column.name != labelled.name and column not in texts]
    names = ", ".join(labels.words)
    read_as = _read_as(readings)
    guesses = (
        Guess("text", ", ".join(column.name for column in texts), why_text),
        Guess("label", labelled.name, why_label),
        Guess("labels", names if len(names) <= 60 else f"{len(labels.words)}: {names[:50]}…", labels.why),
        Guess("kind", labels.kind, _KINDS[labels.kind]),
        Guess("max_tokens", str(max_tokens), why_tokens),
        Guess("metrics", ", ".join(metrics), why_metrics),
        Guess("validation", *_validation(sources)),
        *(Guess(name, repr(value).strip("'"), why) for name, (value, why) in read_as.items()),
    )
    doubts = [] if label is not None else [("--label", label_doubt(columns, labelled))]
    doubts += [] if text else [("--text", text_doubt(columns, labelled, texts))]
    undecided = tuple(f"{doubt}; name it with {option}" for option, doubt in doubts if doubt is not None)
    to_edit = [*undecided, *([labels.to_edit] if labels.to_edit else [])]
    to_edit += _missing_labels(labelled)
    if left_out:
        to_edit.append(f"not used: {', '.join(left_out)}; add informative columns to the template")
    return Draft(
        name=name,
        template=template,
        columns={field: column for field, column in fields.items() if field != column},
        label=labelled.name,
        labels=labels,
        metrics=metrics,
        max_tokens=max_tokens,
        source={**source, **{name: value for name, (value, _) in read_as.items()}},
        guesses=guesses,
        to_edit=tuple(to_edit),
        doubts=undecided,
    )


def _columns(sources: RowSources, source: Mapping[str, str], on_read: Callable[[Reading], None]) -> tuple[Column, ...]:
    separator, encoding = source.get("separator"), source.get("encoding")
    rows = [
        row
        for path in sources.train
        for _, row in raw_rows(path, separator=separator, encoding=encoding, on_read=on_read)
    ]
    if not rows:
        raise InvalidData(f"{sources.train[0]}: no rows")
    return columns_of(rows, {column: class_names(sources.train[0], column) for column in rows[0]})


def _read_as(readings: Sequence[Reading]) -> dict[str, tuple[str, str]]:
    """Return the separator and encoding that all files were read with, if unusual, each with its reason."""
    separators, encodings = ({getattr(each, name) for each in readings} for name in ("separator", "encoding"))
    found = {}
    if len(separators) == 1 and (separator := separators.pop()) is not None:
        found["separator"] = (separator, "gives most rows as many columns as the header")
    if len(encodings) == 1 and (encoding := encodings.pop()) not in UTF_8:
        guessed = any(each.is_guess for each in readings)
        found["encoding"] = (encoding, "a guess: check characters other than ASCII" if guessed else "the file's mark")
    return found


def _missing_labels(column: Column) -> list[str]:
    """Return hints about rows without a label, and about labels that are a program's word for none."""
    # blank text lists no label
    missing = 0 if column.separator is not None else sum(map(is_missing, column.cells))
    words = [value for value in column.counts if value.casefold() in MISSING_WORDS]
    hints = [f"rows without a label: {missing}; training refuses them, so label or remove them"] if missing else []
    if words:
        hints.append(f"{', '.join(words)}: remove the label and its rows if it stands for a missing value")
    return hints


def _template(texts: Sequence[Column]) -> tuple[str, dict[str, str]]:
    """Return `sentence1: {sentence1} sentence2: {sentence2}` and the column of each field."""
    fields: dict[str, str] = {}
    for column in texts:
        field = re.sub(r"\W+", "_", column.name, flags=re.ASCII).strip("_").lower()[:60] or "text"
        if not re.match(r"[a-z_]", field) or field in fields:
            field = f"field_{len(fields) + 1}"
        # the column's own name if a template allows it
        own = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", column.name)
        fields[column.name if own else field] = column.name
    return " ".join(f"{field}: {{{field}}}" for field in fields), fields


def _max_tokens(
    template: str, texts: Sequence[Column], token_ids: Callable[[Sequence[str]], Sequence[Sequence[int]]]
) -> tuple[int, str]:
    parsed = Template.parse(template)
    step = -(-len(texts[0].cells) // _SAMPLED_ROWS)
    cells = zip(*(column.cells[::step] for column in texts), strict=True)
    rendered = [parsed.render(tuple(str(cell or "") for cell in row)) for row in cells]
    lengths = np.array([len(ids) for ids in token_ids(rendered)])
    wanted = int(np.percentile(lengths, 99))
    chosen = min(MAX_DRAFTED_TOKENS, max(16, -(-wanted // 8) * 8))
    cut = float((lengths > chosen).mean())
    return chosen, f"99 % of the texts have {wanted} tokens or fewer; {100 * cut:.1f} % will be cut"


def _metrics(labels: LabelSet, column: Column) -> tuple[tuple[MetricName, ...], str]:
    if labels.kind == "ordinal":
        return ("pearson", "spearman"), "labels are scores: correlations"
    if labels.kind == "multi_label":
        return ("micro_f1", "macro_f1"), "decisions of all labels together, and the mean over labels"
    commonest, rarest = max(column.counts.values()), min(column.counts.values())
    if commonest >= _RARE * rarest:
        return ("accuracy", "macro_f1"), f"{rarest} to {commonest} rows per label: accuracy alone hides rare labels"
    return (
        "accuracy",
    ), f"{commonest} rows per label" if rarest == commonest else f"{rarest} to {commonest} rows per label"


def _validation(sources: RowSources) -> tuple[str, str]:
    if not sources.validation:
        return "a tenth of the training rows", "found no validation file"
    return ", ".join(path.name for path in sources.validation), "its name"
