"""Candidates for a head: strengths of regularisation, of which rows that it was not fitted to choose one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.readouts.head import FEW_ROWS_STRENGTHS, STRENGTHS, WORD_SHARES, Head, fit_heads
from training.readouts.ordinal import ALPHAS, fit_ordinal_heads
from training.task.scoring import Scoring

States = NDArray[np.float32]  # [n, S·H]
FitHead = Callable[[States, NDArray[np.int64]], Head]
"""Fits a head to states and labels."""
FitScores = Callable[[States, NDArray[np.int64]], Callable[[States], NDArray[np.float32]]]
"""The same; returns the head's label log-probabilities [n, K] as a function of states."""


def head_families(
    num_labels: int, scoring: Scoring, *, are_few: bool, word_vectors: NDArray[np.float32] | None = None
) -> list[Mapping[str, FitHead]]:
    """Return the candidates by name, the strongest regularisation of each family first.

    They are logistic regression and, if the labels are numbers, ridge regression. Where rows are few and the label
    words have vectors, they are also logistic regression that is pulled towards shares of these.

    Args:
        are_few: whether the rows are few (`training.data.few_rows`)
        word_vectors: [K, S·H], those of the label words in the space of the states; None if they have none there
    """
    strengths = FEW_ROWS_STRENGTHS if are_few else STRENGTHS
    families: list[Mapping[str, FitHead]] = [
        {f"C = {strength:g}": partial(_logistic, num_labels=num_labels, strength=strength) for strength in strengths}
    ]
    if are_few and word_vectors is not None:
        families += [
            {
                f"C = {strength:g}, {share:g} of the label words": partial(
                    _logistic, num_labels=num_labels, strength=strength, towards=share * word_vectors
                )
                for strength in strengths
            }
            for share in WORD_SHARES
        ]
    if scoring.values is not None:
        families.append({f"alpha = {alpha:g}": partial(_ridge, values=scoring.values, alpha=alpha) for alpha in ALPHAS})
    return families


def scores_of(families: Sequence[Mapping[str, FitHead]]) -> list[Mapping[str, FitScores]]:
    """Return the same candidates as functions that score states."""
    return [{name: partial(_fit_scores, fit) for name, fit in family.items()} for family in families]


def _fit_scores(fit: FitHead, states: States, labels: NDArray[np.int64]) -> Callable[[States], NDArray[np.float32]]:
    return fit(states, labels).log_probs


def _logistic(
    states: States,
    labels: NDArray[np.int64],
    *,
    num_labels: int,
    strength: float,
    towards: NDArray[np.float32] | None = None,
) -> Head:
    return fit_heads(states, labels, num_labels=num_labels, strengths=[strength], towards=towards)[0]


def _ridge(states: States, labels: NDArray[np.int64], *, values: Sequence[float], alpha: float) -> Head:
    return fit_ordinal_heads(states, labels, values=values, alphas=[alpha])[0]
