"""What the columns of a data set hold: texts, numbers, how many different values, how long they are."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from adapters.task import MAX_LABELS, Kind
from training.errors import InvalidData
from training.task.grid import is_on_grid, nearest, number_of


@dataclass(frozen=True, eq=False)
class Column:
    """One column with its cells in the rows' order."""

    name: str
    cells: tuple[object, ...]
    class_names: tuple[str, ...] = ()
    """The names of its integers, where the file has them."""

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value stands in it, as a task file would write the value; empty cells left out."""
        return Counter(str(cell) for cell in self.cells if cell is not None and cell != "")

    @cached_property
    def is_text(self) -> bool:
        """Whether every cell is text or empty, and some is text that is no number."""
        if not all(cell is None or isinstance(cell, str) for cell in self.cells):
            return False
        return bool(self.counts) and not self.is_numeric

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every value is a number, in a CSV file also one that is written as text."""
        return bool(self.counts) and all(number_of(value) is not None for value in self.counts)

    @cached_property
    def numbers(self) -> tuple[Decimal, ...]:
        """Its different numbers, rising; empty where it is not numeric."""
        found = [number_of(value) for value in self.counts] if self.is_numeric else []
        return tuple(sorted({number for number in found if number is not None}))

    @property
    def num_distinct(self) -> int:
        return len(self.counts)

    @property
    def distinct_share(self) -> float:
        """Different values by cells that are not empty."""
        return self.num_distinct / max(1, self.counts.total())

    @cached_property
    def mean_words(self) -> float:
        """Words a cell, over those that are not empty."""
        return sum(len(value.split()) * count for value, count in self.counts.items()) / max(1, self.counts.total())


def columns_of(rows: Iterable[Mapping[str, object]], class_names: Mapping[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """The columns of rows, in the order in which they are first met; a cell that a row lacks is None."""
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    return tuple(
        Column(name, tuple(row.get(name) for row in table), tuple(class_names.get(name, ()))) for name in names
    )


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


MAX_GRID = 26
"""Labels of a grid that scores are rounded to; T5 has as many for STS-B."""
_STEPS = tuple(Decimal(step) for step in ("0.01", "0.02", "0.05", "0.1", "0.2", "0.25", "0.5", "1", "2", "5", "10"))
_SCORE_NAMES = ("score", "rating", "stars", "grade", "similarity")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels as a task file has them, with why."""

    words: dict[str, str]
    """By the labels' names, in order."""
    why: str
    kind: Kind = "single_label"
    values: dict[str, str] = field(default_factory=dict)
    """What stands in the column, to the label's name; empty where the names stand there."""
    round_to: Decimal | None = None
    to_edit: str | None = None
    """What their reader should look at first."""


def label_set(column: Column, can_tell_apart: Callable[[Sequence[str]], bool]) -> LabelSet:
    """The labels that a column holds.

    Args:
        can_tell_apart: whether label words differ as the backbone spells them

    Raises:
        InvalidData: fewer than two labels, or too many
    """
    found = _named(column) if column.class_names else _numbers(column) if column.is_numeric else _texts(column)
    if not 2 <= len(found.words) <= MAX_LABELS:
        raise InvalidData(f"column {column.name!r} has {len(found.words)} labels, expected 2 to {MAX_LABELS}")
    if can_tell_apart(list(found.words.values())):
        return found
    numbered = {name: str(number) for number, name in enumerate(found.words, start=1)}
    edit = "the backbone spells some labels alike: numbers stand for their words, write better ones"
    return LabelSet(numbered, found.why, found.kind, found.values, found.round_to, edit)


def clean_words(name: str) -> str:
    """A label's name as words: `RefundNotShown` and `refund_not-shown` are both `refund not shown`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", spaced).lower().split()) or name.strip()


def _worded(names: Sequence[str]) -> dict[str, str]:
    """Words for names; the names themselves where two would be called alike."""
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
            to_edit="0 and 1 were called no and yes: write what they mean, for example negative and positive",
        )
    is_score = any(word in column.name.lower() for word in _SCORE_NAMES)
    if whole and numbers[0] == 0 and not is_score and len(numbers) <= MAX_LABELS:
        names = {value: f"class_{int(Decimal(value))}" for value in sorted(column.counts, key=Decimal)}
        return LabelSet(
            {name: clean_words(name) for name in names.values()},
            f"{len(numbers)} whole numbers from 0: the classes of a list",
            values=names,
            to_edit="nobody told what the numbers mean: write the labels' names and words",
        )
    return _grid(numbers)


def _grid(numbers: Sequence[Decimal]) -> LabelSet:
    """The coarsest grid that the numbers lie on; where it has many labels, the finest of a few, and rounding to it."""
    low, high = numbers[0], numbers[-1]
    exact = [step for step in _STEPS if all(is_on_grid(number, step) for number in numbers)]
    if exact and (high - low) / exact[-1] < MAX_GRID:
        return LabelSet(_steps(low, high, exact[-1]), f"numbers from {low} to {high}", kind="ordinal")
    for step in _STEPS:
        if (nearest(high, step) - nearest(low, step)) / step < MAX_GRID:
            why = f"{len(numbers)} numbers from {low} to {high}, rounded to {step}"
            return LabelSet(_steps(low, high, step), why, kind="ordinal", round_to=step)
    raise InvalidData(f"labels from {low} to {high}: too wide a range for a grid of {MAX_GRID}")


def _steps(low: Decimal, high: Decimal, step: Decimal) -> dict[str, str]:
    names = [f"{number * step:f}" for number in range(round(low / step), round(high / step) + 1)]
    return dict(zip(names, names, strict=True))
