"""Counts of (answer, label) pairs, of one set of rows or of many resamples at once, and the metrics computed from them.

All metrics of the paper's tasks except exact match depend only on these counts, so one vectorised function serves both
the score and its bootstrap. 0/0 counts as 0, as in scikit-learn's F1 and Matthews, and so does a correlation with a
constant.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

INVALID = -1
"""The answer that is not a label, which only free generation can give."""

Floats = NDArray[np.float64]


# not slotted: cached properties need a dictionary
@dataclass(frozen=True)
class Confusion:
    """The C pairs that occur and their counts, with any leading shape `...`."""

    answers: NDArray[np.int64]  # [C], INVALID or 0 … K − 1
    labels: NDArray[np.int64]  # [C]
    counts: Floats  # [..., C]
    num_labels: int

    @cached_property
    def total(self) -> Floats:
        """The number of rows, [...]."""
        return np.asarray(self.counts.sum(axis=-1))

    @cached_property
    def right(self) -> Floats:
        """The rows answered correctly, by label, [..., K]."""
        return self._by_label(self.labels, self.answers == self.labels)

    @cached_property
    def answered(self) -> Floats:
        """The rows by answer, [..., K + 1]; invalid answers are last."""
        return self._by_label(np.where(self.answers == INVALID, self.num_labels, self.answers), None, extra=1)

    @cached_property
    def wanted(self) -> Floats:
        """The rows by label, [..., K]."""
        return self._by_label(self.labels, None)

    def _by_label(self, which: NDArray[np.int64], kept: NDArray[np.bool_] | None, *, extra: int = 0) -> Floats:
        cells = np.zeros((len(which), self.num_labels + extra))  # [C, K]
        cells[np.arange(len(which)), which] = 1.0 if kept is None else kept
        return np.asarray(self.counts @ cells)


def confusion_of(answers: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> Confusion:
    """Count the pairs of one set of rows: answers [n], labels [n]."""
    codes, counts = np.unique((answers + 1) * num_labels + labels, return_counts=True)
    return Confusion(codes // num_labels - 1, codes % num_labels, counts.astype(np.float64), num_labels)


def accuracy(confusion: Confusion) -> Floats:
    """Return the share of right answers, [...]."""
    return np.asarray(confusion.right.sum(axis=-1) / confusion.total)


def f1(confusion: Confusion, positive: int) -> Floats:
    """Return F1 of one label, [...]; an invalid answer counts as another label."""
    return _f1_by_label(confusion)[..., positive]


def macro_f1(confusion: Confusion) -> Floats:
    """Return the mean F1 of the labels that occur in answers or labels, as in scikit-learn, [...]."""
    seen = confusion.answered[..., :-1] + confusion.wanted > 0  # [..., K]
    return np.asarray(_f1_by_label(confusion).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))


def matthews(confusion: Confusion) -> Floats:
    """Return Matthews' correlation for any number of labels (Gorodkin 2004), [...]; invalid is a label of its own."""
    right, total = confusion.right.sum(axis=-1), confusion.total
    answered, wanted = confusion.answered, confusion.wanted
    together = right * total - (answered[..., :-1] * wanted).sum(axis=-1)
    alone = (total**2 - (answered**2).sum(axis=-1)) * (total**2 - (wanted**2).sum(axis=-1))
    return _ratio(together, np.sqrt(alone))


def pearson(confusion: Confusion, values: Floats) -> Floats:
    """Return the correlation of the answers' numbers with the labels', [...].

    Args:
        values: [K], ascending. An invalid answer counts as the lowest minus one, as in T5's evaluation of STS-B
    """
    return _correlation(confusion, _with_invalid(values)[confusion.answers], values[confusion.labels])


def spearman(confusion: Confusion) -> Floats:
    """Return the correlation of the mean ranks, [...]; labels are ordered by index, invalid is lowest."""
    answered = np.roll(confusion.answered, 1, axis=-1)  # invalid first
    return _correlation(
        confusion,
        _mean_ranks(answered)[..., confusion.answers + 1],
        _mean_ranks(confusion.wanted)[..., confusion.labels],
    )


def _f1_by_label(confusion: Confusion) -> Floats:
    return _ratio(2 * confusion.right, confusion.answered[..., :-1] + confusion.wanted)


def _with_invalid(values: Floats) -> Floats:
    """Append a value for INVALID, which indexes the last place."""
    return np.append(values, values[0] - 1)


def _mean_ranks(counts: Floats) -> Floats:
    """Return the mean rank of each value from the counts, [..., K]."""
    return np.asarray(counts.cumsum(axis=-1) - (counts - 1) / 2)


def _correlation(confusion: Confusion, first: Floats, second: Floats) -> Floats:
    """Correlate two numbers per cell, each [C] or [..., C], weighted by the counts."""
    counts, total = confusion.counts, confusion.total[..., None]
    first, second = (x - (counts * x).sum(axis=-1, keepdims=True) / total for x in (first, second))  # [..., C]
    spread = (counts * first**2).sum(axis=-1) * (counts * second**2).sum(axis=-1)
    varied = _varies(counts, confusion.answers) & _varies(counts, confusion.labels)
    return _ratio((counts * first * second).sum(axis=-1), np.where(varied, np.sqrt(spread), 0.0))


def _varies(counts: Floats, which: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether more than one index occurs, [...]; a computed variance may miss zero by rounding."""
    highest = np.where(counts > 0, which, which.min()).max(axis=-1)
    return np.asarray(np.where(counts > 0, which, which.max()).min(axis=-1) < highest)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(below, dtype=np.float64), where=below > 0)
