"""Candidates of a baseline: models with several strengths of regularisation, of which held-out rows choose one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.baselines.rows import BaselineRows
from training.scoring.decisions import Labels
from training.scoring.out_of_fold import Features, Fit, LogProbs, Predict, cross_validate, fold_rank
from training.task.scoring import Scoring


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoleFeatures:
    """Features of the rows of a baseline, by role."""

    fitted: Features
    """The rows are `BaselineRows.fitted`."""
    selection: Features
    report: Features


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """The best candidate's scores."""

    setting: str
    """Its name, such as `C = 10`."""
    report: LogProbs  # [n, K], of the report rows
    held_out: LogProbs  # [m, K]
    """Scores of rows that it was not fitted to: the selection rows, or out of fold."""
    held_out_labels: Labels


def best_of(
    families: Sequence[Mapping[str, Fit]], features: RoleFeatures, rows: BaselineRows, *, scoring: Scoring
) -> Chosen:
    """Fit the candidates, and return the scores of the best of them.

    The task's score on the selection rows decides, on equal scores the loss, as for the epochs of a prompt. Where rows
    are few, out-of-fold predictions decide as for a head (`fold_rank`), and the best is fitted to all rows.

    Args:
        families: by name, the strongest regularisation of each family first
    """
    fits = {name: fit for family in families for name, fit in family.items()}
    fitted = rows.fitted.tokenized
    if rows.folds is None:
        return _selected(fits, features, rows, scoring=scoring)
    best = max(
        cross_validate(families, features.fitted, fitted, rows.folds, scoring=scoring),
        key=lambda candidate: fold_rank(candidate.metrics, scoring),
    )
    held_out = best.predictions
    return Chosen(
        setting=best.name,
        report=fits[best.name](features.fitted, fitted.labels)(features.report),
        held_out=held_out.log_probs,
        held_out_labels=fitted.labels[held_out.rows],
    )


def _selected(fits: Mapping[str, Fit], features: RoleFeatures, rows: BaselineRows, *, scoring: Scoring) -> Chosen:
    selection = rows.selection.tokenized
    predicts: dict[str, Predict] = {
        name: fit(features.fitted, rows.fitted.tokenized.labels) for name, fit in fits.items()
    }
    scores = {name: predict(features.selection) for name, predict in predicts.items()}
    metrics = {name: selection.selected_by(log_probs, scoring) for name, log_probs in scores.items()}
    best = max(metrics, key=lambda name: (metrics[name].score, -metrics[name].loss))
    return Chosen(
        setting=best,
        report=predicts[best](features.report),
        held_out=scores[best],
        held_out_labels=selection.labels,
    )
