"""A head on the frozen model: what `--method head` would publish, fitted to the same rows."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone
from training.baselines.candidates import Chosen, RoleFeatures, best_of
from training.baselines.rows import BaselineRows
from training.readouts.candidates import head_families, scores_of
from training.readouts.head import frozen_states
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
    """Return the scores of the head, whose candidates are those of `--method head`."""
    is_cut = len(rows.train) > MAX_TRAIN_ROWS
    rows = replace(rows, train=rows.train.first(MAX_TRAIN_ROWS))
    families = head_families(num_labels, scoring, are_few=rows.folds is not None)
    features = RoleFeatures(
        fitted=states.of(rows.fitted.tokenized),
        selection=states.of(rows.selection.tokenized),
        report=states.of(rows.report.tokenized),
    )
    chosen = best_of(scores_of(families), features, rows, scoring=scoring)
    return replace(chosen, setting=f"{chosen.setting}, first {MAX_TRAIN_ROWS} training rows") if is_cut else chosen
