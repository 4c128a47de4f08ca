"""Columns of a data set: their statistics, the choice of the text and label columns, and the labels in one."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property

from adapters.task import MAX_LABELS, Kind
from training.data.missing import is_missing
from training.errors import InvalidData
from training.task.grid import is_on_grid, nearest, number_of


@dataclass(frozen=True, eq=False)
class Column:
    """A column with its cells in row order."""

    name: str
    cells: tuple[object, ...]
    class_names: tuple[str, ...] = ()
    """The names of its integers, if the file has them."""
    separator: str | None = None
    """The text between the values of a cell, if each cell lists several."""

    @cached_property
    def counts(self) -> Counter[str]:
        """The count of each value, written as in a task file, without missing ones; of lists, that of their members."""
        return Counter(str(value) for cell in self.cells if not is_missing(cell) for value in self._values(cell))

    @cached_property
    def is_listed(self) -> bool:
        """Whether every cell is a list, or text that is one, or missing."""
        lists = [cell for cell in self.cells if isinstance(cell, list)]
        return self.separator is not None or (
            bool(lists) and all(isinstance(cell, list) or is_missing(cell) for cell in self.cells)
        )

    def _values(self, cell: object) -> Sequence[object]:
        if isinstance(cell, list):
            return cell
        if self.separator is None:
            return [cell]
        return [part for text in str(cell).split(self.separator) if (part := text.strip())]

    @cached_property
    def is_text(self) -> bool:
        """Whether every cell is text or missing, and some text is not a number."""
        if not all(isinstance(cell, str) or is_missing(cell) for cell in self.cells):
            return False
        return bool(self.counts) and not self.is_numeric

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every value is a number, or text that is a number, as in a CSV file."""
        return bool(self.counts) and all(number_of(value) is not None for value in self.counts)

    @cached_property
    def numbers(self) -> tuple[Decimal, ...]:
        """Its distinct numbers in ascending order; empty if it is not numeric."""
        found = [number_of(value) for value in self.counts] if self.is_numeric else []
        return tuple(sorted({number for number in found if number is not None}))

    @property
    def num_distinct(self) -> int:
        return len(self.counts)

    @property
    def distinct_share(self) -> float:
        """Distinct values per non-empty cell."""
        return self.num_distinct / max(1, self.counts.total())

    @cached_property
    def mean_words(self) -> float:
        """Mean number of words per non-empty cell."""
        return sum(len(value.split()) * count for value, count in self.counts.items()) / max(1, self.counts.total())


def columns_of(rows: Iterable[Mapping[str, object]], class_names: Mapping[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """Return the columns of rows in the order of their first occurrence; missing cells are None."""
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    return tuple(
        Column(name, tuple(row.get(name) for row in table), tuple(class_names.get(name, ()))) for name in names
    )


LABEL_NAMES = (
    *("label", "labels", "label_text", "class", "category", "target", "sentiment", "intent", "topic", "type", "tag"),
    *("rating", "stars", "score", "grade", "similarity", "y", "output", "coarse_label"),
)
LIST_NAMES = ("labels", "tags", "topics", "categories", "classes", "intents", "types", "genres", "emotions")
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
"""Names of columns that form a pair, in the order of the template."""


def label_column(columns: Sequence[Column], requested: str | None) -> tuple[Column, str]:
    """Choose the label column, and give the reason.

    Raises:
        InvalidData: no column qualifies, or the requested one does not exist
    """
    if requested is not None:
        column = named(columns, requested)
        return as_list(column) or column, "requested"
    usable = [column for column in columns if could_be_labels(column)]
    listed = [column for column in columns if column.name.lower() in (*LABEL_NAMES, *LIST_NAMES)]
    for column in [split for each in listed if (split := as_list(each)) is not None]:
        return column, f"its name; {column.num_distinct} distinct values, several in a row"
    for column in usable:
        if column.class_names:
            return column, f"the file names its {len(column.class_names)} classes"
    for name in LABEL_NAMES:
        for column in usable:
            if column.name.lower() == name:
                return column, f"its name; {column.num_distinct} distinct values"
    repeating = [column for column in usable if column.distinct_share <= 0.5 and column.mean_words <= 5]
    if not repeating:
        for column in columns:
            if column.name.lower() in LABEL_NAMES and column.num_distinct == 1:
                raise InvalidData(f"column {column.name!r} has one label for all rows, expected at least 2")
        seen = ", ".join(f"{column.name!r} ({column.num_distinct} distinct values)" for column in columns)
        raise InvalidData(f"found no label column among {seen}; name it with --label")
    best = min(repeating, key=lambda column: column.num_distinct)
    return best, f"the fewest distinct values, {best.num_distinct} in {len(best.cells)} rows"


def text_columns(columns: Sequence[Column], label: Column, requested: Sequence[str]) -> tuple[tuple[Column, ...], str]:
    """Choose the text column, or a pair of them, and give the reason; raises as `label_column`."""
    if requested:
        return tuple(named(columns, name) for name in requested), "requested"
    candidates = [column for column in columns if column.is_text and column.name != label.name]
    # a column with a few distinct values, such as COPA's cause or effect, is not a text
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
        raise InvalidData(f"found no text column in addition to the label {label.name!r}; name it with --text")
    longest = max(texts.values(), key=lambda column: (column.mean_words, column.distinct_share))
    return (longest,), f"the longest texts, {longest.mean_words:.0f} words on average"


_SEPARATORS = {"|": 0.0, ";": 0.0, ",": 0.5}
"""Characters between the values of a cell; and the share of the values in cells with several that must also be in other
cells. Names such as `Books, Music` have commas too.
"""
_LISTED_SHARE = 0.02
"""Share of the cells that must hold several values for a text column to be one of lists."""
_MAX_VALUE_WORDS = 4


def as_list(column: Column) -> Column | None:
    """Return the column as one of lists: those of its file, or its texts, split; None for any other column."""
    if column.is_listed:
        return column
    if not column.is_text or column.class_names:
        return None
    for separator, recurring in _SEPARATORS.items():
        cells = [[part.strip() for part in value.split(separator)] for value in column.counts]
        several = [cell for cell in cells if len(cell) > 1]
        if not several or not all(part for cell in several for part in cell):
            continue
        occurrences = Counter(part for cell in cells for part in set(cell))
        members = {part for cell in several for part in cell}
        share = sum(occurrences[part] > 1 for part in members) / len(members)
        split = replace(column, separator=separator)
        is_short = split.mean_words <= _MAX_VALUE_WORDS and split.num_distinct <= MAX_LABELS
        num_several = sum(count for value, count in column.counts.items() if separator in value)
        is_common = num_several >= _LISTED_SHARE * column.counts.total()
        if is_common and is_short and split.distinct_share <= 0.5 and share > recurring:
            return split
    return None


def named(columns: Sequence[Column], name: str) -> Column:
    """Return the column with a name, or raise `InvalidData`."""
    for column in columns:
        if column.name == name:
            return column
    raise InvalidData(f"unknown column {name!r}, expected one of {', '.join(column.name for column in columns)}")


def could_be_labels(column: Column) -> bool:
    """Whether the values of a column could be labels: at least two, and not more than a task may have."""
    if any(isinstance(cell, (dict, list)) for cell in column.cells) and not column.is_listed:
        return False
    # scores with many digits may all be distinct: they are rounded to a grid
    return column.num_distinct >= 2 and (column.num_distinct <= MAX_LABELS or column.is_numeric)


MAX_GRID = 26
"""The maximum number of labels on a grid; T5 uses as many for STS-B."""
_STEPS = tuple(Decimal(step) for step in ("0.01", "0.02", "0.05", "0.1", "0.2", "0.25", "0.5", "1", "2", "5", "10"))
_SCORE_NAMES = ("score", "rating", "stars", "grade", "similarity")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of a task file, with the reason."""

    words: dict[str, str]
    """The words of each label, by name and in order."""
    why: str
    kind: Kind = "single_label"
    values: dict[str, str] = field(default_factory=dict)
    """The label name of each value in the column; empty if the values are the names."""
    round_to: Decimal | None = None
    to_edit: str | None = None
    """A hint for the author, to be checked first."""
    separator: str | None = None
    """Multi-label tasks: the text between labels in one cell; None for a column of lists."""


def label_set(column: Column, can_tell_apart: Callable[[Sequence[str]], bool]) -> LabelSet:
    """Derive the labels from a column.

    Args:
        can_tell_apart: whether the backbone's tokenizer gives label words different token ids

    Raises:
        InvalidData: fewer than two labels, or too many
    """
    if column.is_listed:
        found = replace(_named(column) if column.class_names else _texts(column), kind="multi_label")
        found = replace(found, separator=column.separator)
    else:
        found = _named(column) if column.class_names else _numbers(column) if column.is_numeric else _texts(column)
    if not 2 <= len(found.words) <= MAX_LABELS:
        raise InvalidData(f"column {column.name!r} has {len(found.words)} labels, expected 2 to {MAX_LABELS}")
    if can_tell_apart(list(found.words.values())):
        return found
    numbered = {name: str(number) for number, name in enumerate(found.words, start=1)}
    edit = "the backbone cannot distinguish some labels, so their words are numbers: write better ones"
    return replace(found, words=numbered, to_edit=edit)


def clean_words(name: str) -> str:
    """Split a label's name into words: `RefundNotShown` and `refund_not-shown` both give `refund not shown`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", spaced).lower().split()) or name.strip()


def _worded(names: Sequence[str]) -> dict[str, str]:
    """Return words for names, or the names themselves if two would get the same words."""
    words = {name: clean_words(name) for name in names}
    return words if len(set(words.values())) == len(names) else {name: name for name in names}


def _named(column: Column) -> LabelSet:
    values = {str(index): name for index, name in enumerate(column.class_names)}
    return LabelSet(_worded(column.class_names), "the file names them", values=values)


def _texts(column: Column) -> LabelSet:
    return LabelSet(_worded(sorted(column.counts)), "the column's values, in order")


def _numbers(column: Column) -> LabelSet:
    numbers = column.numbers
    whole = all(number == number.to_integral_value() for number in numbers)
    if set(numbers) == {0, 1} and len(column.counts) == 2:
        return LabelSet(
            {"no": "no", "yes": "yes"},
            "0 and 1",
            values={value: "yes" if Decimal(value) == 1 else "no" for value in sorted(column.counts)},
            to_edit="0 and 1 are named no and yes: write what they mean, for example negative and positive",
        )
    is_score = any(word in column.name.lower() for word in _SCORE_NAMES)
    if whole and numbers[0] == 0 and not is_score and len(numbers) <= MAX_LABELS:
        names = {value: f"class_{int(Decimal(value))}" for value in sorted(column.counts, key=Decimal)}
        return LabelSet(
            {name: clean_words(name) for name in names.values()},
            f"{len(numbers)} whole numbers from 0, probably class indices",
            values=names,
            to_edit="the meaning of the numbers is unknown: write the names and words of the labels",
        )
    return _grid(numbers)


def _grid(numbers: Sequence[Decimal]) -> LabelSet:
    """Return the coarsest grid that holds the numbers, or the finest small one with rounding."""
    low, high = numbers[0], numbers[-1]
    exact = [step for step in _STEPS if all(is_on_grid(number, step) for number in numbers)]
    if exact and (high - low) / exact[-1] < MAX_GRID:
        return LabelSet(_steps(low, high, exact[-1]), f"numbers from {low} to {high}", kind="ordinal")
    for step in _STEPS:
        if (nearest(high, step) - nearest(low, step)) / step < MAX_GRID:
            why = f"{len(numbers)} numbers from {low} to {high}, rounded to {step}"
            return LabelSet(_steps(low, high, step), why, kind="ordinal", round_to=step)
    raise InvalidData(f"labels from {low} to {high}: the range is too wide for a grid of {MAX_GRID} labels")


def _steps(low: Decimal, high: Decimal, step: Decimal) -> dict[str, str]:
    names = [f"{number * step:f}" for number in range(round(low / step), round(high / step) + 1)]
    return dict(zip(names, names, strict=True))
