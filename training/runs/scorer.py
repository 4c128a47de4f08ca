"""Scoring of a command's runs; what several runs have in common is computed once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapters.task import TaskSpec
from backbone import Backbone, Precision, Readout
from training.baselines.fitting import Baselines
from training.loop.job import TrainingJob
from training.scoring.bootstrap import Interval, interval_figures
from training.scoring.calibration import CalibrationFit, calibration_figures, fit_calibration, halves_figures
from training.scoring.decisions import Labels, decide
from training.scoring.evaluation import Scored, TokenizedRows, evaluate, predict
from training.scoring.fitted_rows import FittedRows
from training.scoring.metrics import Metrics
from training.scoring.multi_label import LabelFigures, label_figures
from training.scoring.out_of_fold import OutOfFold
from training.task.scoring import Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMetrics:
    """Metrics of a run's best prompt on its report rows, which it has not seen except in the paper's split."""

    selection: Metrics
    """On the selection rows, in float32; a run that trained in bf16 selected by other values. Of a head that was fitted
    to few rows, out of fold."""
    log_probs: NDArray[np.float32]  # [n, K]
    """Label log-probabilities of the report rows, before calibration."""
    metrics: Metrics
    """On the report rows."""
    intervals: Mapping[str, Interval]
    """By metric, and of `score`."""
    fit: CalibrationFit
    """Fitted on the same predictions as `selection`."""
    calibrated: Mapping[str, float]
    """Effect of the calibration on the report rows: `ece`, `raw_ece`, `brier`, `raw_brier` and, with a threshold,
    `coverage` and `answered_accuracy`."""
    decisions: Labels | None = None  # [n, K]
    """The labels that the report rows get in a multi-label task; None in another."""
    in_halves: bool
    """The report rows are the selection rows, as in the paper's split: the effect is measured by `halves_figures`."""
    fitted_rows: FittedRows | None = None
    """Set if the model was fitted to the selection rows too, and `selection` is out of fold."""

    def figures(self) -> dict[str, float]:
        """Return the figures of an adapter's provenance except for the metrics themselves."""
        report = {**interval_figures(self.intervals), **self.calibrated}
        figures = {f"report_{name}": value for name, value in report.items()}
        if self.fit.coverage is not None and self.fit.precision is not None:
            figures["selection_coverage"] = self.fit.coverage
            figures["selection_answered_accuracy"] = self.fit.precision
        return {name: round(value, 6) for name, value in figures.items()}

    @property
    def answers(self) -> Labels:
        """The answers to the report rows: [n], or [n, K] in a multi-label task."""
        return self.log_probs.argmax(axis=1) if self.decisions is None else self.decisions

    def label_figures(self, names: Sequence[str], report: TokenizedRows) -> list[LabelFigures]:
        """Return the figures of each label of a multi-label task on the report rows; none of another."""
        if self.decisions is None:
            return []
        thresholds = self.fit.calibration.thresholds(len(names)).tolist()
        return label_figures(self.log_probs, self.decisions, report.labels, names=names, thresholds=thresholds)

    def described(self) -> dict[str, str | int]:
        """Return an adapter's provenance entries on how the calibration was measured, if not on unseen rows, on how
        many label thresholds were fitted, and on the rows that a head was fitted to if they were few.
        """
        halves = {"calibration_measured": "halves"} if self.in_halves and self.fit.is_fitted else {}
        few = {} if self.fitted_rows is None else self.fitted_rows.described()
        return halves | few | ({} if self.fit.thresholds is None else self.fit.thresholds.described())


class Scorer:
    """A float32 backbone, its other precisions, the metrics of untrained prompts, and the baselines."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._precisions: dict[Precision, Backbone] = {"fp32": backbone}
        self.baselines = Baselines(backbone)
        self._untrained: dict[tuple[str, str, tuple[str, ...], Scoring], Metrics] = {}

    def in_precision(self, precision: Precision) -> Backbone:
        """Return the backbone in a precision, converted on first use."""
        if precision not in self._precisions:
            self._precisions[precision] = self.backbone.in_precision(precision)
        return self._precisions[precision]

    def untrained(self, start: Scored, job: TrainingJob, report: TokenizedRows) -> Metrics:
        """Score what a run starts from; identical prompts with the same label words are scored once per set of rows."""
        if not isinstance(start, Tensor) or job.readout is not None:
            return evaluate(self.backbone, start, job.started_by, report, scoring=job.scoring)
        prompt = hashlib.sha256(start.cpu().numpy().tobytes()).hexdigest()
        key = (prompt, report.digest(), job.label_words, job.scoring)
        if key not in self._untrained:
            self._untrained[key] = evaluate(self.backbone, start, job.trie, report, scoring=job.scoring)
        return self._untrained[key]

    def report(
        self,
        best: Scored,
        readout: Readout,
        job: TrainingJob,
        report: TokenizedRows,
        spec: TaskSpec,
        *,
        out_of_fold: OutOfFold | None = None,
    ) -> ReportMetrics:
        """Calibrate on the selection rows and measure on the report rows; if they are the same, on two halves.

        Args:
            out_of_fold: predictions to calibrate on instead, of a head that was fitted to the selection rows too
        """
        held_out, fitted_rows = job.selection, None
        if out_of_fold is None:
            selected = predict(self.backbone, best, readout, held_out.token_ids)
        else:
            held_out, selected = job.all_rows.at(out_of_fold.rows), out_of_fold.log_probs
            fitted_rows = FittedRows.of(job.all_rows, out_of_fold)
        fit = fit_calibration(
            selected,
            held_out.labels,
            spec=spec,
            readout=job.arguments.readout,
            calibrate=job.arguments.calibrate,
            abstain_precision=job.arguments.abstain_precision,
        )
        same = out_of_fold is None and _are_the_same(held_out, report)
        log_probs = selected if same else predict(self.backbone, best, readout, report.token_ids)
        return ReportMetrics(
            selection=held_out.measured(selected, job.scoring, fit.calibration),
            log_probs=log_probs,
            metrics=report.measured(log_probs, job.scoring, fit.calibration),
            intervals=report.intervals(log_probs, job.scoring, fit.calibration),
            fit=fit,
            decisions=decide(log_probs, multi_label=True, calibration=fit.calibration) if spec.is_multi_label else None,
            calibrated=(halves_figures if same else calibration_figures)(fit, log_probs, report.labels),
            in_halves=same,
            fitted_rows=fitted_rows,
        )


def _are_the_same(rows: TokenizedRows, others: TokenizedRows) -> bool:
    return rows.token_ids == others.token_ids and np.array_equal(rows.labels, others.labels)
