"""What a trained prompt is worth on its report rows: metrics with their intervals, and how well it is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.task import TaskSpec
from backbone import Backbone
from training.loop.job import TrainingJob
from training.scoring.bootstrap import Interval, interval_figures
from training.scoring.calibration import CalibrationFit, calibration_figures, fit_calibration, halves_figures
from training.scoring.evaluation import Scored, TokenizedRows, predict
from training.scoring.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMetrics:
    """The best prompt of a run on rows that it has not seen, but for the paper's split."""

    selection: Metrics
    """On the selection rows, in float32; where it trained in bf16, another network's than those that chose it."""
    log_probs: NDArray[np.float32]  # [n, K]
    """Label log-probabilities of the report rows, before calibration."""
    metrics: Metrics
    """On the report rows."""
    intervals: Mapping[str, Interval]
    """By metric, and of `score`."""
    fit: CalibrationFit
    """Fitted on the selection rows."""
    calibrated: Mapping[str, float]
    """What the calibration is worth on the report rows: `ece`, `raw_ece`, `brier`, `raw_brier` and, with a threshold,
    `coverage` and `answered_accuracy`."""
    in_halves: bool
    """The report rows are the selection rows, as the paper's split has it: measured by `halves_figures`."""

    def figures(self) -> dict[str, float]:
        """For the adapter's provenance: all but the metrics themselves."""
        report = {**interval_figures(self.intervals), **self.calibrated}
        figures = {f"report_{name}": value for name, value in report.items()}
        if self.fit.coverage is not None and self.fit.precision is not None:
            figures["selection_coverage"] = self.fit.coverage
            figures["selection_answered_accuracy"] = self.fit.precision
        return {name: round(value, 6) for name, value in figures.items()}

    def described(self) -> dict[str, str]:
        """For the adapter's provenance: how the calibration was measured, where not on rows that it has not seen."""
        return {"calibration_measured": "halves"} if self.in_halves and self.fit.is_fitted else {}


def measure_report(
    backbone: Backbone,
    scored: Scored,
    job: TrainingJob,
    *,
    report: TokenizedRows,
    spec: TaskSpec,
) -> ReportMetrics:
    """Calibrate on the job's selection rows, measure on the report rows; where those are the same, on two halves."""
    selected = predict(backbone, scored, job.trie, job.selection.token_ids)
    fit = fit_calibration(
        selected,
        job.selection.labels,
        spec=spec,
        calibrate=job.arguments.calibrate,
        abstain_precision=job.arguments.abstain_precision,
    )
    same = _are_the_same(job.selection, report)
    log_probs = selected if same else predict(backbone, scored, job.trie, report.token_ids)
    return ReportMetrics(
        selection=job.selection.measured(selected, job.scoring),
        log_probs=log_probs,
        metrics=report.measured(log_probs, job.scoring),
        intervals=report.intervals(log_probs, job.scoring),
        fit=fit,
        calibrated=(halves_figures if same else calibration_figures)(fit, log_probs, report.labels),
        in_halves=same,
    )


def _are_the_same(rows: TokenizedRows, others: TokenizedRows) -> bool:
    return rows.token_ids == others.token_ids and np.array_equal(rows.labels, others.labels)
