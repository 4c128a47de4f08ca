"""A head: a learned readout without a prompt, fitted to the frozen model's states in seconds.

The states of all rows are computed once. Logistic regression on the standardised states is convex, so the fit depends
on no seed; its strength of regularisation is chosen on rows that it was not fitted to. The standardisation is folded
into the vectors.

Regularisation pulls the vectors towards zero or, where they score the decoder's state, towards the vectors of the label
words. These are what the frozen model makes of the words' meaning, which few rows cannot show.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backbone import Backbone, LearnedState, PackedRow, divide, pack

STRENGTHS = (0.002, 0.02, 0.2)
"""Values of C in scikit-learn that are tried, the inverse of the regularisation; the strongest regularisation first."""
FEW_ROWS_STRENGTHS = (0.0002, 0.002, 0.02, 0.2, 2.0)
"""The same where rows are few, which need a wider range and whose fits are quick."""
WORD_SHARES = (0.3, 1.0)
"""Shares of the label words' vectors that regularisation pulls towards where rows are few; larger ones trust the words
more."""
START_STRENGTH = 0.02
"""The strength of a fit that is only the start of training."""
MAX_START_ROWS = 4_096
"""Training rows of such a fit: more of them would take longer and start the training no better."""
_MAX_BATCH_TOKENS = 2_048
_MAX_ITERATIONS = 2_000
_LEAST_GAIN = 1e-6
"""Relative decrease of the loss in an iteration at which a fit ends: on banking77 the loss of other rows is then within
0.001 nats of the minimum's."""
ABSENT = -30.0
"""The logit of a label that no training row has."""


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head."""

    vectors: NDArray[np.float32]  # [K, S·H]
    bias: NDArray[np.float32]  # [K]
    multi_label: bool = False

    def log_probs(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return label log-probabilities of states [n, S·H], [n, K]."""
        logits = torch.from_numpy(states @ self.vectors.T + self.bias)
        result: NDArray[np.float32]
        result = (F.logsigmoid(logits) if self.multi_label else torch.log_softmax(logits, dim=1)).numpy()
        return result


def frozen_states(
    backbone: Backbone, token_ids: Sequence[Sequence[int]], state: LearnedState, *, prompt: Tensor | None = None
) -> NDArray[np.float32]:
    """Return the state of each row, [n, S·H], in their order.

    Args:
        prompt: [P, H], precedes every row; None for no prompt
    """
    if prompt is None:
        prompt = torch.zeros(0, backbone.width, device=backbone.device)
    states = np.empty((len(token_ids), backbone.state_width(state)), dtype=np.float32)
    with torch.inference_mode():
        by_length = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
        for rows in divide(by_length, lambda row: len(token_ids[row]), at_most=_MAX_BATCH_TOKENS):
            packed = pack([PackedRow(range(len(prompt)), token_ids[row]) for row in rows], device=backbone.device)
            states[rows] = backbone.states(backbone.encode(packed, prompt), state).float().cpu().numpy()
    return states


def fit_heads(
    states: NDArray[np.float32],  # [n, S·H]
    labels: NDArray[np.int64],  # [n], or [n, K] of 0 and 1
    *,
    num_labels: int,
    strengths: Sequence[float] = STRENGTHS,
    towards: NDArray[np.float32] | None = None,  # [K, S·H]
) -> list[Head]:
    """Fit a head for each strength of regularisation; of a multi-label task, each label against the rest.

    Args:
        towards: the vectors that regularisation pulls towards; None for zero, and always in a multi-label task
    """
    mean = states.mean(axis=0, dtype=np.float64)
    scale = states.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    standardised = ((states - mean) / scale).astype(np.float32)
    return [
        _fit(standardised, labels, mean, scale, strength, num_labels=num_labels, towards=towards)
        for strength in strengths
    ]


def _fit(
    standardised: NDArray[np.float32],
    labels: NDArray[np.int64],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    strength: float,
    *,
    num_labels: int,
    towards: NDArray[np.float32] | None,  # [K, S·H]
) -> Head:
    if labels.ndim == 2:
        return _fit_each(standardised, labels, mean, scale, strength)
    vectors = np.zeros((num_labels, standardised.shape[1]))
    bias = np.full(num_labels, ABSENT)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return Head(vectors.astype(np.float32), bias.astype(np.float32))
    if towards is None:
        weights, offsets = _logistic_regression(standardised, labels, strength)
    else:
        weights, offsets = _pulled_regression(standardised, labels, towards[present] * scale, strength)
    vectors[present] = weights / scale
    bias[present] = offsets - vectors[present] @ mean
    return Head(vectors.astype(np.float32), bias.astype(np.float32))


def _fit_each(
    standardised: NDArray[np.float32],
    labels: NDArray[np.int64],  # [n, K] of 0 and 1
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    strength: float,
) -> Head:
    """Fit each label against the rest. A label that no row has, or every row, has a constant logit."""
    num_labels = labels.shape[1]
    vectors = np.zeros((num_labels, standardised.shape[1]))
    bias = np.where(labels.all(axis=0), -ABSENT, ABSENT)
    for label in np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0)).tolist():
        weights, offsets = _logistic_regression(standardised, labels[:, label], strength)
        vectors[label] = (weights[1] - weights[0]) / scale
        bias[label] = offsets[1] - offsets[0] - vectors[label] @ mean
    return Head(vectors.astype(np.float32), bias.astype(np.float32), multi_label=True)


def _logistic_regression(
    states: NDArray[np.float32], labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [K', S·H] and offsets [K'] of the K' labels that occur, in ascending order."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - imports scipy, which takes a second
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        # a head that has not fully converged is evaluated all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(states, labels)
    weights, offsets = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(weights) == 1:  # two labels: scikit-learn keeps the log odds of the second
        return np.vstack([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
    return weights, offsets


def _pulled_regression(
    states: NDArray[np.float32],  # [n, S·H], standardised
    labels: NDArray[np.int64],  # [n], with K' different values
    towards: NDArray[np.float64],  # [K', S·H]
    strength: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [K', S·H] and offsets [K'] that minimise C·Σ cross-entropy + ½‖weights − towards‖².

    With `towards` at zero it is what scikit-learn minimises for three or more labels; it has no other centre.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - takes a second to import
    from scipy.special import log_softmax  # noqa: PLC0415

    present, index = np.unique(labels, return_inverse=True)
    one_hot = np.eye(len(present))[index]  # [n, K']
    start = states @ towards.T.astype(np.float32)
    split = towards.size

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss and its gradient, of the weights' distance from `towards` and the offsets, flattened."""
        distance, offsets = values[:split].reshape(towards.shape), values[split:]
        # products in float32: a fit takes about a third less time than in float64
        log_probs = log_softmax(start + states @ distance.T.astype(np.float32) + offsets, axis=1)
        errors = strength * (np.exp(log_probs) - one_hot)
        value = -strength * (log_probs * one_hot).sum() + 0.5 * (distance**2).sum()
        gradient = errors.T.astype(np.float32) @ states + distance
        return value, np.concatenate([gradient.ravel(), errors.sum(axis=0)])

    at_start = np.zeros(split + len(present))
    options = {"maxiter": _MAX_ITERATIONS, "ftol": _LEAST_GAIN}
    found = minimize(loss, at_start, jac=True, method="L-BFGS-B", options=options).x
    return towards + found[:split].reshape(towards.shape), found[split:]
