"""Rows dealt to folds and held out of training: what is judged together stays together, labels stay in proportion."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.examples import Example
from training.errors import InvalidData

MAX_FOLDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One part of a cross-validation: the fold that is reported while the others train.

    Raises:
        InvalidData: fewer than 2 folds, more than `MAX_FOLDS`, or none of this number
    """

    number: int
    """From 1."""
    of: int

    def __post_init__(self) -> None:
        if not 2 <= self.of <= MAX_FOLDS:
            raise InvalidData(f"folds is {self.of}, expected 2 to {MAX_FOLDS}")
        if not 1 <= self.number <= self.of:
            raise InvalidData(f"fold is {self.number}, expected 1 to {self.of}")


def deal(examples: Sequence[Example], folds: int, *, seed: int) -> list[list[Example]]:
    """Deal rows to folds: every group whole, large ones first, each to the fold that has fewest rows of its label.

    A row without a group is a group of its own, so that a label's counts in two folds differ by one at most. A
    group's label is its commonest.
    """
    groups = whole_groups(examples, seed=seed)
    groups.sort(key=len, reverse=True)  # stable: groups of one size stay in their drawn order
    dealt: list[list[Example]] = [[] for _ in range(folds)]
    counts: list[Counter[int]] = [Counter() for _ in range(folds)]
    for group in groups:
        label = Counter(example.label for example in group).most_common(1)[0][0]
        fold = min(range(folds), key=lambda index: (counts[index][label], len(dealt[index])))
        dealt[fold] += group
        counts[fold].update(example.label for example in group)
    return dealt


def whole_groups(examples: Sequence[Example], *, seed: int) -> list[list[Example]]:
    """The rows by group, in an order that the seed draws."""
    groups: dict[object, list[Example]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(index if example.group is None else example.group, []).append(example)
    drawn = list(groups.values())
    random.Random(seed).shuffle(drawn)
    return drawn
