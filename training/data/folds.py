"""Division of rows into folds that keep groups together and labels in proportion."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from training.data.examples import Example, text_key
from training.errors import InvalidData

MAX_FOLDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold of a cross-validation, reported under a prompt that the others trained.

    Raises:
        InvalidData: a number of folds outside 2 to `MAX_FOLDS`, or a fold number outside 1 to that
    """

    number: int
    """Counted from 1."""
    of: int

    def __post_init__(self) -> None:
        if not 2 <= self.of <= MAX_FOLDS:
            raise InvalidData(f"folds is {self.of}, expected 2 to {MAX_FOLDS}")
        if not 1 <= self.number <= self.of:
            raise InvalidData(f"fold is {self.number}, expected 1 to {self.of}")


def deal(examples: Sequence[Example], folds: int, *, seed: int) -> list[list[Example]]:
    """Divide rows into folds: whole groups, large ones first, each into the fold with the fewest rows of its label.

    Without groups and equal texts, the counts of a label in two folds differ by at most one. The label of a group is
    its most common one; that of a row with several labels is its rarest (`strata`).
    """
    stratum = strata(examples)
    groups = in_drawn_order(whole_groups(examples), seed)
    groups.sort(key=len, reverse=True)  # stable: groups of the same size keep their random order
    dealt: list[list[Example]] = [[] for _ in range(folds)]
    counts: list[Counter[int]] = [Counter() for _ in range(folds)]
    for group in groups:
        label = Counter(map(stratum, group)).most_common(1)[0][0]
        fold = min(range(folds), key=lambda index: (counts[index][label], len(dealt[index])))
        dealt[fold] += group
        counts[fold].update(map(stratum, group))
    return dealt


NO_LABEL = -1
"""The stratum of rows without a label."""


def strata(examples: Iterable[Example]) -> Callable[[Example], int]:
    """Return the function that assigns a row to the label by which divisions are stratified.

    It is the row's label; among several, the one that the fewest of `examples` have, as in iterative stratification
    (Sechidis et al. 2011), which keeps rare labels in every part.
    """
    counts = Counter(label for example in examples for label in example.labels)
    return lambda example: min(example.labels, key=lambda label: (counts[label], label), default=NO_LABEL)


def whole_groups(examples: Sequence[Example]) -> list[list[Example]]:
    """Return the rows that no division may separate: those of one group, and those of equal texts (`text_key`)."""
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        keys = [("text", text_key(example.text))] + ([] if example.group is None else [("group", example.group)])
        for key in keys:
            ours, theirs = root(index), root(first.setdefault(key, index))
            parents[max(ours, theirs)] = min(ours, theirs)
    groups: dict[int, list[Example]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(root(index), []).append(example)
    return list(groups.values())


def in_drawn_order(groups: Sequence[list[Example]], seed: int) -> list[list[Example]]:
    """Return groups in an order drawn by the seed."""
    drawn = list(groups)
    random.Random(seed).shuffle(drawn)
    return drawn
