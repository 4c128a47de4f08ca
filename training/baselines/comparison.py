"""A run measured against its baselines, on its report rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.baselines import BASELINES, Baseline, BaselineName
from training.baselines.fitting import BaselineAnswers
from training.config.choices import MethodName
from training.scoring.bootstrap import interval_figures, intervals
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import answer_metrics, group_codes
from training.scoring.paired import score_lead
from training.task.scoring import Scoring


def baselines_of(method: MethodName) -> tuple[BaselineName, ...]:
    """Return the baselines that a run is measured against: a head is not one of a head."""
    return tuple(name for name in BASELINES if not (name == "head" and method == "head"))


def compared(
    baselines: Sequence[BaselineAnswers],
    answers: NDArray[np.int64],  # [n]
    report: TokenizedRows,
    *,
    num_labels: int,
    scoring: Scoring,
) -> list[Baseline]:
    """Measure baselines on the report rows, and the lead of a run's answers over each of them."""
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
