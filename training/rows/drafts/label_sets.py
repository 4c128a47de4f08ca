"""The labels of a drafted task: their names, the words that the model spells, and which cells stand for them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from adapters.task import MAX_LABELS, Kind
from training.errors import InvalidData
from training.rows.drafts.columns import Column
from training.rows.grid import is_on_grid, nearest

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
