"""How often each answer met each label, in one set of rows or many resamples of it at once, and the metrics of that.

Every metric of the paper's tasks but one depends on these counts alone, so one vectorised function serves a score and
its bootstrap. Where a metric is 0/0 it is 0, as scikit-learn's F1 and Matthews are; a correlation with a constant is 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

INVALID = -1
"""An answer outside the labels, which only free generation can give."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)  # not slotted: the sums below are kept where they were taken once
class Confusion:
    """Counts of (answer, label) pairs: C cells that occur, under any leading shape `...`."""

    answers: NDArray[np.int64]  # [C], INVALID or 0 … K − 1
    labels: NDArray[np.int64]  # [C]
    counts: Floats  # [..., C]
    num_labels: int

    @cached_property
    def total(self) -> Floats:
        """Rows, [...]."""
        return np.asarray(self.counts.sum(axis=-1))

    @cached_property
    def right(self) -> Floats:
        """Rows that were answered rightly, by label, [..., K]."""
        return self._by_label(self.labels, self.answers == self.labels)

    @cached_property
    def answered(self) -> Floats:
        """Rows by answer, [..., K + 1]; the invalid ones stand last."""
        return self._by_label(np.where(self.answers == INVALID, self.num_labels, self.answers), None, extra=1)

    @cached_property
    def wanted(self) -> Floats:
        """Rows by label, [..., K]."""
        return self._by_label(self.labels, None)

    def _by_label(self, which: NDArray[np.int64], kept: NDArray[np.bool_] | None, *, extra: int = 0) -> Floats:
        cells = np.zeros((len(which), self.num_labels + extra))  # [C, K]
        cells[np.arange(len(which)), which] = 1.0 if kept is None else kept
        return np.asarray(self.counts @ cells)


def confusion_of(answers: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> Confusion:
    """The counts of one set of rows: answers [n], labels [n]."""
    codes, counts = np.unique((answers + 1) * num_labels + labels, return_counts=True)
    return Confusion(codes // num_labels - 1, codes % num_labels, counts.astype(np.float64), num_labels)


def accuracy(confusion: Confusion) -> Floats:
    """Share of right answers, [...]."""
    return np.asarray(confusion.right.sum(axis=-1) / confusion.total)


def f1(confusion: Confusion, positive: int) -> Floats:
    """F1 of one label, [...]; an invalid answer is one that is not this label."""
    return _f1_by_label(confusion)[..., positive]


def macro_f1(confusion: Confusion) -> Floats:
    """Unweighted mean of F1 over the labels that occur among answers or labels, as scikit-learn has it, [...]."""
    seen = confusion.answered[..., :-1] + confusion.wanted > 0  # [..., K]
    return np.asarray(_f1_by_label(confusion).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))


def matthews(confusion: Confusion) -> Floats:
    """Matthews' correlation, also of more than two labels (Gorodkin 2004), [...], −1 to 1; invalid is a label apart."""
    right, total = confusion.right.sum(axis=-1), confusion.total
    answered, wanted = confusion.answered, confusion.wanted
    together = right * total - (answered[..., :-1] * wanted).sum(axis=-1)
    alone = (total**2 - (answered**2).sum(axis=-1)) * (total**2 - (wanted**2).sum(axis=-1))
    return _ratio(together, np.sqrt(alone))


def pearson(confusion: Confusion, values: Floats) -> Floats:
    """Correlation of the answers' numbers with the labels', [...].

    Args:
        values: [K], rising. An invalid answer counts as one below the lowest: T5's −1 for STS-B
    """
    return _correlation(confusion, _with_invalid(values)[confusion.answers], values[confusion.labels])


def spearman(confusion: Confusion) -> Floats:
    """Correlation of the ranks, equals sharing their mean, [...]; labels rise with their index, invalid is lowest."""
    answered = np.roll(confusion.answered, 1, axis=-1)  # invalid first
    return _correlation(
        confusion,
        _mean_ranks(answered)[..., confusion.answers + 1],
        _mean_ranks(confusion.wanted)[..., confusion.labels],
    )


def _f1_by_label(confusion: Confusion) -> Floats:
    return _ratio(2 * confusion.right, confusion.answered[..., :-1] + confusion.wanted)


def _with_invalid(values: Floats) -> Floats:
    """Values that can be indexed by INVALID, which is the last place."""
    return np.append(values, values[0] - 1)


def _mean_ranks(counts: Floats) -> Floats:
    """The mean rank of each value from how often each occurs, [..., K]."""
    return np.asarray(counts.cumsum(axis=-1) - (counts - 1) / 2)


def _correlation(confusion: Confusion, first: Floats, second: Floats) -> Floats:
    """Return the correlation of two numbers per cell, each [C] or [..., C], weighted by the counts."""
    counts, total = confusion.counts, confusion.total[..., None]
    first, second = (x - (counts * x).sum(axis=-1, keepdims=True) / total for x in (first, second))  # [..., C]
    spread = (counts * first**2).sum(axis=-1) * (counts * second**2).sum(axis=-1)
    varied = _varies(counts, confusion.answers) & _varies(counts, confusion.labels)
    return _ratio((counts * first * second).sum(axis=-1), np.where(varied, np.sqrt(spread), 0.0))


def _varies(counts: Floats, which: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether more than one index occurs, [...]: a spread that is summed up may miss zero by rounding."""
    highest = np.where(counts > 0, which, which.min()).max(axis=-1)
    return np.asarray(np.where(counts > 0, which, which.max()).min(axis=-1) < highest)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(below, dtype=np.float64), where=below > 0)
