"""Paired bootstrap of two sets of answers to the same rows: the difference of their scores, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.baselines import Lead
from training.scoring.bootstrap import LEVEL, RESAMPLES, resampled_weights
from training.scoring.confusion import Confusion
from training.scoring.metrics import confusion_metric, group_codes, groups_right
from training.scoring.multi_label import WeightedRows
from training.task.scoring import Scoring

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def score_lead(
    answers: Indices,  # [n]
    others: Indices,  # [n]
    labels: Indices,  # [n]
    *,
    num_labels: int,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
    seed: int = 0,
) -> Lead:
    """Return the score of answers less that of others, with its 95 % percentile interval from 1,000 resamples.

    Both are measured on the same resampled rows (Berg-Kirkpatrick et al. 2012, section 3), so rows that both answer
    alike do not widen the interval. Rows are drawn with replacement, in whole groups if there are groups.
    """
    triples = ((answers + 1) * (num_labels + 1) + others + 1) * num_labels + labels  # an answer may be INVALID, −1
    kinds, of_row = np.unique(triples, return_inverse=True)  # [C], [n]
    codes = np.arange(len(labels)) if groups is None else group_codes(groups, len(labels))
    draws = None if groups is None else _drawn(np.ones(codes.max() + 1), seed)  # [1 + R, G]
    if draws is None:
        counts = _drawn(np.bincount(of_row).astype(np.float64), seed)  # [1 + R, C]
    else:
        per_group = np.zeros((draws.shape[1], len(kinds)))
        np.add.at(per_group, (codes, of_row), 1.0)
        counts = draws @ per_group
    scores = []
    for given, of_kind in zip((answers, others), np.divmod(kinds // num_labels, num_labels + 1), strict=True):
        confusion = Confusion(of_kind - 1, kinds % num_labels, counts, num_labels)
        whole = None if draws is None else draws @ groups_right(given == labels, codes) / draws.shape[1]
        scores.append(_score(confusion, whole, scoring))
    difference = scores[0] - scores[1]  # [1 + R]
    low, high = np.quantile(difference[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Lead(float(difference[0]), low, high)


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The answers of a model to multi-label rows, and the scores behind them."""

    log_probs: NDArray[np.float32]  # [n, K]
    decisions: Indices  # [n, K]


def decisions_lead(
    ours: Ranked,
    others: Ranked,
    labels: Indices,  # [n, K]
    *,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
    seed: int = 0,
) -> Lead:
    """Return the same for multi-label rows."""
    codes = group_codes(groups, len(labels))

    def difference(weights: Floats) -> Floats:
        scores = [
            np.mean([rows.metric(name) for name in scoring.metrics], axis=0)
            for rows in (WeightedRows(each.log_probs, each.decisions, labels, weights) for each in (ours, others))
        ]
        return np.asarray(scores[0] - scores[1])

    found = difference(np.ones((1, len(labels))))
    parts = [difference(weights) for weights in resampled_weights(codes, seed=seed)]
    low, high = np.quantile(np.concatenate(parts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Lead(float(found[0]), low, high)


def _drawn(counts: Floats, seed: int) -> Floats:
    """Return the counts [C] of a sample, followed by those of its resamples of the same size, [1 + R, C]."""
    total = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(total, counts / total, size=RESAMPLES)
    return np.vstack([counts, draws])


def _score(confusion: Confusion, whole: Floats | None, scoring: Scoring) -> Floats:
    """Return the task's score of every sample, [1 + R].

    Args:
        whole: the share of groups with all rows right, [1 + R]; None if every row is its own group
    """
    values = []
    for name in scoring.metrics:
        if name == "exact_match":
            values.append(confusion_metric("accuracy", confusion, scoring) if whole is None else whole)
        else:
            values.append(confusion_metric(name, confusion, scoring))
    return np.asarray(np.mean(values, axis=0))
