"""Which columns are the text and which is the label, guessed from names, types, lengths and how often values repeat."""

from collections.abc import Sequence

from adapters.task import MAX_LABELS
from training.errors import InvalidData
from training.rows.drafts.columns import Column

LABEL_NAMES = (
    *("label", "labels", "label_text", "class", "category", "target", "sentiment", "intent", "topic", "type", "tag"),
    *("rating", "stars", "score", "grade", "similarity", "y", "output", "coarse_label"),
)
TEXT_NAMES = (
    *("text", "sentence", "content", "review", "message", "body", "utterance", "question", "query", "comment"),
    *("tweet", "document", "description", "input", "title", "headline"),
)
PAIRS = (
    *(("hypothesis", "premise"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2")),
    *(("question", "sentence"), ("question", "passage"), ("question", "context"), ("question", "paragraph")),
    *(("query", "document"), ("query", "passage"), ("text", "text_pair"), ("title", "text"), ("title", "body")),
    *(("title", "content"), ("title", "description"), ("subject", "body"), ("headline", "body")),
)
"""Columns that are read together, in the order in which a template has them."""


def label_column(columns: Sequence[Column], asked: str | None) -> tuple[Column, str]:
    """The column of the label, and why it is taken for that.

    Raises:
        InvalidData: none could be, or not the one that is asked for
    """
    if asked is not None:
        return named(columns, asked), "asked for"
    usable = [column for column in columns if _could_be_labels(column)]
    for column in usable:
        if column.class_names:
            return column, f"the file names its {len(column.class_names)} classes"
    for name in LABEL_NAMES:
        for column in usable:
            if column.name.lower() == name:
                return column, f"its name; {column.num_distinct} different values"
    repeating = [column for column in usable if column.distinct_share <= 0.5 and column.mean_words <= 5]
    if not repeating:
        seen = ", ".join(f"{column.name!r} ({column.num_distinct} different values)" for column in columns)
        raise InvalidData(f"no column could be the label: {seen}; name it with --label")
    best = min(repeating, key=lambda column: column.num_distinct)
    return best, f"the fewest different values, {best.num_distinct} in {len(best.cells)} rows"


def text_columns(columns: Sequence[Column], label: Column, asked: Sequence[str]) -> tuple[tuple[Column, ...], str]:
    """The columns of the text, one or a pair, and why they are taken for that; raises as `label_column`."""
    if asked:
        return tuple(named(columns, name) for name in asked), "asked for"
    candidates = [column for column in columns if column.is_text and column is not label]
    # a column of a few words, COPA's cause or effect, is no text of its own
    varied = [column for column in candidates if column.num_distinct > min(10, column.counts.total() / 2)]
    texts = {column.name.lower(): column for column in varied or candidates}
    for first, second in PAIRS:
        if first in texts and second in texts:
            return (texts[first], texts[second]), "a pair by its names"
    for name in TEXT_NAMES:
        if name in texts:
            found = texts[name]
            return (found,), f"its name; {found.mean_words:.0f} words on average"
    if not texts:
        raise InvalidData(f"no column could be the text beside the label {label.name!r}; name it with --text")
    longest = max(texts.values(), key=lambda column: (column.mean_words, column.distinct_share))
    return (longest,), f"the longest texts, {longest.mean_words:.0f} words on average"


def named(columns: Sequence[Column], name: str) -> Column:
    """The column of a name; `InvalidData` where there is none."""
    for column in columns:
        if column.name == name:
            return column
    raise InvalidData(f"no column {name!r}, expected one of {', '.join(column.name for column in columns)}")


def _could_be_labels(column: Column) -> bool:
    if any(isinstance(cell, (dict, list)) for cell in column.cells):
        return False
    # scores with many digits are as good as all different: a grid stands for them
    return column.num_distinct >= 2 and (column.num_distinct <= MAX_LABELS or column.is_numeric)
