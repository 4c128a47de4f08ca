"""Results of a cross-validation: the report rows of all folds taken together."""

from collections.abc import Sequence

import numpy as np

from adapters.baselines import Baseline
from training.baselines.comparison import compared
from training.baselines.fitting import BaselineAnswers
from training.runs.layout import PREDICTIONS
from training.runs.run_result import RunResult
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics, measure, measure_decisions
from training.scoring.predictions import read_baseline_answers, read_predictions
from training.task.task_file import TaskFile


def missing_folds(outcomes: Sequence[RunResult]) -> list[int]:
    """Return the numbers of the folds that no run of a cross-validation reports."""
    folds = [outcome.fold for outcome in outcomes if outcome.fold is not None]
    return sorted(set(range(1, folds[0].of + 1)) - {fold.number for fold in folds}) if folds else []


def out_of_fold(outcomes: Sequence[RunResult], task: TaskFile) -> Metrics:
    """Measure the report rows of all folds taken together, read from their folders; no fold may be missing.

    Raises:
        InvalidData: a folder's predictions cannot be read
    """
    folds = [read_predictions(outcome.folder / PREDICTIONS, task.spec.label_names) for outcome in outcomes]
    groups = [group for fold in folds for group in fold.groups or ()]
    log_probs, labels, predicted = (
        np.concatenate([getattr(fold, name) for fold in folds]) for name in ("log_probs", "labels", "predicted")
    )
    if task.spec.is_multi_label:
        # each fold's answers are under the thresholds of its own adapter
        return measure_decisions(log_probs, predicted, labels, scoring=task.scoring)
    return measure(
        log_probs,
        labels,
        scoring=task.scoring,
        groups=groups or None,
    )


def out_of_fold_baselines(outcomes: Sequence[RunResult], task: TaskFile) -> list[Baseline]:
    """Measure the baselines of all folds taken together, and the lead over each; no fold may be missing.

    Returns:
        empty if a fold has no baselines, or for a multi-label task, whose baselines' probabilities are not kept

    Raises:
        InvalidData: a folder's predictions cannot be read
    """
    names = [{baseline.name for baseline in outcome.baselines} for outcome in outcomes]
    if task.spec.is_multi_label or not all(names):
        return []
    label_names = task.spec.label_names
    paths = [outcome.folder / PREDICTIONS for outcome in outcomes]
    folds = [read_predictions(path, label_names) for path in paths]
    answers = [read_baseline_answers(path, label_names) for path in paths]
    groups = [group for fold in folds for group in fold.groups or ()]
    predicted, labels = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("predicted", "labels"))
    return compared(
        [
            BaselineAnswers(name=baseline.name, answers=np.concatenate([fold[baseline.name] for fold in answers]))
            for baseline in outcomes[0].baselines
            if all(baseline.name in fold for fold in answers)
        ],
        predicted,
        TokenizedRows(((),) * len(labels), labels, 0, tuple(groups) or None),
        num_labels=len(label_names),
        scoring=task.scoring,
    )
