"""Samples of rows: a number of them with labels in proportion, some of each label, or whole groups."""

import random
from collections import Counter
from collections.abc import Sequence

from training.data.examples import Example
from training.data.folds import strata

Groups = list[list[Example]]
"""Rows in groups that no division may separate."""


def stratified(rows: tuple[Example, ...], count: int) -> tuple[Example, ...]:
    """Return `count` rows, in order, with labels in proportion; all rows if there are fewer.

    The first rows of each label are taken, so that rows in a random order give a random sample. Every label that occurs
    has a row in it if `count` allows. Labels are those by which divisions are stratified (`strata`).
    """
    if count >= len(rows):
        return rows
    stratum = strata(rows)
    left = _with_every_label(quotas(Counter(map(stratum, rows)), count))
    kept = []
    for row in rows:
        label = stratum(row)
        if left[label] > 0:
            left[label] -= 1
            kept.append(row)
    return tuple(kept)


def _with_every_label(shares: Counter[int]) -> Counter[int]:
    """Give each label without a row one of the label with the most rows, as far as there are enough."""
    found = Counter(shares)
    for label in sorted(found):
        most = max(found, key=lambda other: found[other])
        if found[label] == 0 and found[most] > 1:
            found[most] -= 1
            found[label] = 1
    return found


def quotas(labels: Counter[int], count: int) -> Counter[int]:
    """Share `count` rows among labels in proportion to their rows, by the largest remainders."""
    total = labels.total()
    shares = {label: divmod(rows * count, total) for label, rows in sorted(labels.items())}
    found = Counter({label: whole for label, (whole, _) in shares.items()})
    largest = sorted(shares, key=lambda label: -shares[label][1])
    found.update(largest[: count - found.total()])
    return found


def label_counts(rows: Sequence[Example]) -> Counter[int]:
    """Count the rows that have each label."""
    return Counter(label for row in rows for label in row.labels)


def of_each_label(rows: Sequence[Example], count: int) -> tuple[Example, ...]:
    """Return the first `count` rows of each label, in order; all rows of a label that has fewer."""
    seen: Counter[int | tuple[int, ...]] = Counter()
    kept = []
    for row in rows:
        seen[row.label] += 1
        if seen[row.label] <= count:
            kept.append(row)
    return tuple(kept)


def first_groups(groups: Groups, count: int | None) -> Groups:
    """Return the first `count` rows, extended to the end of the last one's group."""
    taken: Groups = []
    for group in groups:
        if count is not None and sum(map(len, taken)) >= count:
            break
        taken.append(group)
    return taken


def drawn_groups(examples: tuple[Example, ...], count: int | None) -> tuple[Example, ...]:
    """Choose at most `count` rows in whole groups, in order and always the same ones."""
    if count is None or count >= len(examples):
        return examples
    groups: dict[int | str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(i if example.group is None else example.group, []).append(i)
    drawn = list(groups.values())
    random.Random(0).shuffle(drawn)
    chosen: list[int] = []
    for group in drawn:
        if chosen and len(chosen) + len(group) > count:
            break
        chosen += group
    return tuple(examples[i] for i in sorted(chosen))
