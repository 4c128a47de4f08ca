"""A run measured against its baselines, on its report rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.baselines import BASELINE_FOLDS, BASELINES, Baseline, BaselineName
from adapters.task import TaskSpec
from training.baselines.fitting import BaselineAnswers
from training.config.choices import MethodName
from training.scoring.bootstrap import decision_intervals, interval_figures, intervals
from training.scoring.decisions import Labels
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import answer_metrics, group_codes, measure_decisions
from training.scoring.out_of_fold import LogProbs
from training.scoring.paired import Ranked, decisions_lead, score_lead
from training.task.scoring import Scoring

MAX_ZERO_SHOT_LABELS = 20
"""The untrained model is not measured on tasks with more labels: for 77 of them it takes longer than all else."""


def baselines_of(method: MethodName, spec: TaskSpec) -> tuple[BaselineName, ...]:
    """Return the baselines that a run is measured against.

    A head is not one of a head, and label words, which exclude each other, are not one of a multi-label task.
    """
    left_out = {"head"} if method == "head" else set()
    if spec.is_multi_label or len(spec.labels) > MAX_ZERO_SHOT_LABELS:
        left_out.add("zero_shot")
    return tuple(name for name in BASELINES if name not in left_out)


def baseline_settings(baselines: Sequence[BaselineAnswers], *, folds: NDArray[np.int64] | None) -> dict[str, str | int]:
    """Return the entries of a provenance's `data`: the setting of each baseline, and the number of folds that chose it.

    Args:
        folds: of the rows that they were fitted to (`BaselineRows.folds`)
    """
    settings: dict[str, str | int] = {
        f"baseline_{baseline.name}": baseline.setting for baseline in baselines if baseline.setting
    }
    return settings if folds is None or not settings else settings | {BASELINE_FOLDS: int(folds.max()) + 1}


def compared(
    baselines: Sequence[BaselineAnswers],
    answers: Labels,
    report: TokenizedRows,
    *,
    num_labels: int,
    scoring: Scoring,
    log_probs: LogProbs | None = None,
) -> list[Baseline]:
    """Measure baselines on the report rows, and the lead of a run's answers over each of them.

    Args:
        log_probs: the run's, [n, K]; needed in a multi-label task
    """
    if report.is_multi_label:
        assert log_probs is not None
        return [_compared_decisions(each, log_probs, answers, report, scoring=scoring) for each in baselines]
    return [
        Baseline(
            name=baseline.name,
            figures=_figures(baseline, report, num_labels=num_labels, scoring=scoring),
            lead=score_lead(
                answers,
                baseline.answers,
                report.labels,
                num_labels=num_labels,
                scoring=scoring,
                groups=report.groups,
            ),
        )
        for baseline in baselines
    ]


def _compared_decisions(
    baseline: BaselineAnswers,
    log_probs: LogProbs,  # [n, K]
    decisions: Labels,  # [n, K]
    report: TokenizedRows,
    *,
    scoring: Scoring,
) -> Baseline:
    """Measure a baseline of a multi-label task."""
    labels, groups = report.labels, report.groups
    equal = np.zeros(labels.shape, dtype=np.float32)
    others = Ranked(equal if baseline.log_probs is None else baseline.log_probs, baseline.answers)
    metrics = measure_decisions(others.log_probs, others.decisions, labels, scoring=scoring)
    bounds = decision_intervals(others.log_probs, others.decisions, labels, scoring=scoring, groups=groups)
    values: dict[str, float] = {name: value for name, value in metrics.values.items()}  # noqa: C416 - str keys
    figures = values | {"score": metrics.score} | interval_figures(bounds)
    if baseline.log_probs is not None:
        figures["loss"] = metrics.loss
    lead = decisions_lead(Ranked(log_probs, decisions), others, labels, scoring=scoring, groups=groups)
    return Baseline(name=baseline.name, figures=figures, lead=lead)


def _figures(
    baseline: BaselineAnswers, report: TokenizedRows, *, num_labels: int, scoring: Scoring
) -> dict[str, float]:
    """Return the metrics and `score` of a baseline with their intervals, and its loss if it gives probabilities."""
    rows = np.arange(len(report))
    loss = (
        None if baseline.log_probs is None else float(-baseline.log_probs[rows, report.labels].mean(dtype=np.float64))
    )
    values = answer_metrics(
        baseline.answers,
        report.labels,
        group_codes(report.groups, len(report)),
        num_labels=num_labels,
        scoring=scoring,
    )
    figures: dict[str, float] = {name: value for name, value in values.items()}  # noqa: C416 - str keys
    bounds = intervals(baseline.answers, report.labels, num_labels=num_labels, scoring=scoring, groups=report.groups)
    score = sum(values[name] for name in scoring.metrics) / len(scoring.metrics)
    return {**figures, "score": score, **({} if loss is None else {"loss": loss}), **interval_figures(bounds)}
