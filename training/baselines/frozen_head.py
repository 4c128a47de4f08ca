"""A head on the frozen model: what `--method head` would publish, fitted to the same rows."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone
from training.baselines.candidates import Chosen, Features, Fit, Predict, best_of
from training.baselines.rows import BaselineRows
from training.readouts.head import STRENGTHS, fit_heads, frozen_states
from training.readouts.ordinal import ALPHAS, fit_ordinal_heads
from training.scoring.decisions import Labels
from training.scoring.evaluation import TokenizedRows
from training.task.scoring import Scoring

MAX_TRAIN_ROWS = 20_000
"""Encoding costs a forward per row, so more training rows than these are not used."""


class FrozenStates:
    """Mean encoder states of texts without a prompt, each computed once, whatever rows of seeds and folds share."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._known: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def of(self, rows: TokenizedRows) -> NDArray[np.float32]:
        """Return the states of rows, [n, H]."""
        new = [ids for ids in dict.fromkeys(rows.token_ids) if ids not in self._known]
        if new:
            self._known |= zip(new, frozen_states(self._backbone, new, "pooled"), strict=True)
        return np.stack([self._known[ids] for ids in rows.token_ids])


def frozen_head(states: FrozenStates, rows: BaselineRows, *, num_labels: int, scoring: Scoring) -> Chosen:
    """Return the chosen setting with its label log-probabilities."""
    train = rows.train.first(MAX_TRAIN_ROWS).tokenized
    held_out = states.of(rows.selection.tokenized)
    chosen, predict = best_of(
        candidates(num_labels, scoring),
        states.of(train),
        train,
        held_out,
        rows.selection.tokenized,
        scoring=scoring,
    )
    cut = f", first {MAX_TRAIN_ROWS} training rows" if len(rows.train) > MAX_TRAIN_ROWS else ""
    return Chosen(f"{chosen}{cut}", predict(states.of(rows.report.tokenized)), predict(held_out))


def candidates(num_labels: int, scoring: Scoring) -> Mapping[str, Fit]:
    """Return the models that are tried: logistic regression, and ridge regression if the labels are numbers."""
    heads: dict[str, Fit] = {
        f"C = {strength:g}": partial(_fit_head, num_labels=num_labels, strength=strength) for strength in STRENGTHS
    }
    if scoring.values is None:
        return heads
    return heads | {f"alpha = {alpha:g}": partial(_fit_ordinal, values=scoring.values, alpha=alpha) for alpha in ALPHAS}


def _fit_head(states: Features, labels: Labels, *, num_labels: int, strength: float) -> Predict:
    return fit_heads(states, labels, num_labels=num_labels, strengths=[strength])[0].log_probs


def _fit_ordinal(states: Features, labels: NDArray[np.int64], *, values: Sequence[float], alpha: float) -> Predict:
    return fit_ordinal_heads(states, labels, values=values, alphas=[alpha])[0].log_probs
