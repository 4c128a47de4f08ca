"""What a cross-validation comes to: every row as the prompt answered that did not train on it."""

from collections.abc import Sequence

import numpy as np

from training.runs.layout import PREDICTIONS
from training.runs.outcome import RunResult
from training.scoring.metrics import Metrics, measure
from training.scoring.predictions import read_predictions
from training.task.task_file import TaskFile


def missing_folds(outcomes: Sequence[RunResult]) -> list[int]:
    """The numbers of the folds that none of a cross-validation's runs reports."""
    folds = [outcome.fold for outcome in outcomes if outcome.fold is not None]
    return sorted(set(range(1, folds[0].of + 1)) - {fold.number for fold in folds}) if folds else []


def out_of_fold(outcomes: Sequence[RunResult], task: TaskFile) -> Metrics:
    """The metrics of all folds' report rows taken together, out of their folders; no fold is to be missing.

    Raises:
        InvalidData: a folder's predictions cannot be read
    """
    folds = [read_predictions(outcome.folder / PREDICTIONS, task.spec.label_names) for outcome in outcomes]
    groups = [group for fold in folds for group in fold.groups or ()]
    return measure(
        np.concatenate([fold.log_probs for fold in folds]),
        np.concatenate([fold.labels for fold in folds]),
        scoring=task.scoring,
        groups=groups or None,
    )
