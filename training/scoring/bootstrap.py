"""Bootstrap confidence intervals of a task's metrics, for other rows from the same distribution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scoring.confusion import Confusion, confusion_of
from training.scoring.metrics import confusion_metric, group_codes, groups_right
from training.scoring.multi_label import WeightedRows
from training.task.scoring import METRIC_NAMES, MetricName, Scoring

RESAMPLES = 1_000
LEVEL = 0.95

_AT_ONCE = 64
"""Resamples of multi-label rows that are measured together, which bounds the memory."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """The bounds of a figure."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f}–{self.high:.3f}"


def intervals(
    answers: NDArray[np.int64],  # [n]
    labels: NDArray[np.int64],  # [n]
    *,
    num_labels: int,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
    seed: int = 0,
) -> dict[str, Interval]:
    """Return 95 % percentile intervals of every measured metric and of `score`, from 1,000 resamples.

    Rows are drawn with replacement, in whole groups if there are groups. Drawing n rows amounts to drawing the count of
    each pair of answer and label, so a resample is one multinomial draw, and all resamples are measured at once.
    """
    if groups is None:
        confusion, whole = _resampled_rows(answers, labels, num_labels, seed), None
    else:
        confusion, whole = _resampled_groups(answers, labels, group_codes(groups, len(labels)), num_labels, seed)
    samples: dict[MetricName, Floats] = {
        name: _sample(name, confusion, whole, scoring)
        for name in scoring.measured  # each [R]
    }
    score = np.mean([samples[name] for name in scoring.metrics], axis=0)
    return {name: _interval(values) for name, values in [*samples.items(), ("score", score)]}


def decision_intervals(
    log_probs: NDArray[np.float32],  # [n, K]
    decisions: NDArray[np.int64],  # [n, K]
    labels: NDArray[np.int64],  # [n, K]
    *,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the same intervals of a multi-label task."""
    samples: dict[MetricName, list[Floats]] = {name: [] for name in scoring.measured}
    for weights in resampled_weights(group_codes(groups, len(labels)), seed=seed):
        rows = WeightedRows(log_probs, decisions, labels, weights)
        for name, values in samples.items():
            values.append(rows.metric(name))
    whole = {name: np.concatenate(values) for name, values in samples.items()}  # each [R]
    score = np.mean([whole[name] for name in scoring.metrics], axis=0)
    return {name: _interval(values) for name, values in [*whole.items(), ("score", score)]}


def resampled_weights(codes: NDArray[np.int64], *, seed: int) -> Iterator[Floats]:
    """Yield how often each row was drawn by each resample, [r, n], in parts of 1,000 resamples together.

    Args:
        codes: the group of each row, [n], 0 … G − 1; rows are drawn in whole groups
    """
    num_groups = int(codes.max()) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, _AT_ONCE):
        shares = np.full(num_groups, 1 / num_groups)
        draws = generator.multinomial(num_groups, shares, size=min(_AT_ONCE, RESAMPLES - start))  # [r, G]
        yield draws[:, codes].astype(np.float64)


def interval_figures(found: Mapping[str, Interval]) -> dict[str, float]:
    """Return the bounds by name: `accuracy_low`, `accuracy_high`."""
    return {
        f"{name}_{end}": value
        for name, interval in found.items()
        for end, value in (("low", interval.low), ("high", interval.high))
    }


def read_intervals(figures: Mapping[str, float], *, role: str) -> dict[str, Interval]:
    """Invert `interval_figures` for the known figures of a role."""
    names = [*METRIC_NAMES, "score"]
    return {
        name: Interval(figures[f"{role}_{name}_low"], figures[f"{role}_{name}_high"])
        for name in names
        if f"{role}_{name}_low" in figures
    }


def _sample(name: MetricName, confusion: Confusion, whole: Floats | None, scoring: Scoring) -> Floats:
    if name != "exact_match":
        return confusion_metric(name, confusion, scoring)
    # without groups, every row is its own group
    return confusion_metric("accuracy", confusion, scoring) if whole is None else whole


def _resampled_rows(answers: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int, seed: int) -> Confusion:
    """Resample rows: counts [R, C]."""
    seen = confusion_of(answers, labels, num_labels)
    draws = np.random.default_rng(seed).multinomial(len(labels), seen.counts / len(labels), size=RESAMPLES)
    return Confusion(seen.answers, seen.labels, draws.astype(np.float64), num_labels)


def _resampled_groups(
    answers: NDArray[np.int64],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    num_labels: int,
    seed: int,
) -> tuple[Confusion, Floats]:
    """Resample whole groups: counts [R, C], and the share of groups with all rows right, [R]."""
    pairs, cells = np.unique((answers + 1) * num_labels + labels, return_inverse=True)  # [C], [n]
    right = groups_right(answers == labels, codes)  # [G]
    per_group = np.zeros((len(right), len(pairs)))
    np.add.at(per_group, (codes, cells), 1.0)
    draws = np.random.default_rng(seed).multinomial(
        len(right), np.full(len(right), 1 / len(right)), size=RESAMPLES
    )  # [R, G]
    confusion = Confusion(pairs // num_labels - 1, pairs % num_labels, draws @ per_group, num_labels)
    return confusion, np.asarray(draws @ right.astype(np.float64) / len(right))


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(low, high)
