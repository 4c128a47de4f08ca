"""Evaluation of an adapter on a task's labelled rows, as `superpos evaluate` reports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.adapter import ReducedPrecision
from backbone import Backbone
from training.config.choices import Calibrate, InvalidPolicy
from training.data.examples import Example, RowFile
from training.scoring.adapter_answers import (
    adapter_decisions,
    answers,
    compare,
    generated,
    recorded,
    with_calibration,
    with_profile,
)
from training.scoring.bootstrap import Interval
from training.scoring.calibration import CalibrationFit, calibration_line, fit_calibration
from training.scoring.confusion import INVALID
from training.scoring.decisions import Labels, are_same
from training.scoring.evaluation import TokenizedRows, tokenize_examples
from training.scoring.generation import under_policy
from training.scoring.metrics import Metrics, measure_answers
from training.scoring.multi_label import LabelFigures, label_figures
from training.scoring.robustness import PERTURBATIONS, perturbed
from training.task.scoring import Scoring
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Evaluations to make in addition to the metrics."""

    precisions: Sequence[ReducedPrecision] = ()
    """Compare with the answers in these."""
    generated: InvalidPolicy | None = None
    """Compare with free generation, and count generated text that is not a label in this way."""
    calibrate: Calibrate = "never"
    """`never`: keep the adapter's calibration."""
    abstain_precision: float | None = None
    robustness: bool = False


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows with an adapter's predictions."""

    backbone: Backbone
    adapter: PromptAdapter
    scoring: Scoring
    examples: Sequence[Example]
    rows: TokenizedRows
    log_probs: NDArray[np.float32]  # [n, K]

    def agreement(self, answers: Labels) -> float:
        """Return the share of rows whose predicted label, or labels, are the same in other answers."""
        return float(are_same(answers, adapter_decisions(self.adapter, self.log_probs)).mean())

    def label_figures(self) -> tuple[LabelFigures, ...]:
        """Return the figures of each label of a multi-label task; none of another."""
        if not self.rows.is_multi_label:
            return ()
        names = self.adapter.spec.label_names
        decisions = adapter_decisions(self.adapter, self.log_probs)
        thresholds = self.adapter.manifest.calibration.thresholds(len(names)).tolist()
        return tuple(label_figures(self.log_probs, decisions, self.rows.labels, names=names, thresholds=thresholds))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same rows answered in another way."""

    metrics: Metrics
    label_agreement: float
    """Share of the rows that get the same label as in float32, 0 to 1."""
    invalid: float = 0.0
    """Share of the rows whose answer is not a label, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterEvaluation:
    """Result of `evaluate_adapter`."""

    metrics: Metrics
    intervals: Mapping[str, Interval]
    precisions: Mapping[ReducedPrecision, Comparison]
    generated: Comparison | None
    perturbed: Mapping[str, Comparison]
    """By the name of the perturbation of the texts."""
    fit: CalibrationFit | None
    calibration: str | None
    """The fitted calibration in one line."""
    adapter: PromptAdapter
    """The adapter with the profile of its predictions, and what other precisions and calibration found."""
    labels: tuple[LabelFigures, ...] = ()
    """The figures of each label of a multi-label task, under the adapter's thresholds before any were fitted."""
    notes: tuple[str, ...] = ()
    """How the files were read, if not in the usual way of their type."""


def evaluate_adapter(
    backbone: Backbone, adapter: PromptAdapter, task: TaskFile, read: RowFile, options: EvaluationOptions
) -> AdapterEvaluation:
    """Score an adapter on rows.

    Args:
        task: in the adapter's labels (`adapter_task`)
        read: rows of that task

    Raises:
        InvalidAdapter: it was trained for another backbone
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    rows = tokenize_examples(backbone, adapter.spec, read.examples)
    log_probs = answers(backbone, adapter, rows)
    scored = ScoredRows(backbone, adapter, task.scoring, read.examples, rows, log_probs)
    served = adapter.manifest.calibration
    metrics = rows.measured(log_probs, task.scoring, served)
    compared: dict[ReducedPrecision, Comparison] = {}
    for precision in options.precisions:
        found = compare(backbone.in_precision(precision), adapter, rows, log_probs, scoring=task.scoring)
        compared[precision] = Comparison(found.metrics, found.label_agreement)
        adapter = recorded(adapter, found)
    fit = calibration = None
    if options.calibrate != "never":
        fit = fit_calibration(
            log_probs,
            rows.labels,
            spec=adapter.spec,
            readout=adapter.manifest.readout,
            calibrate=options.calibrate,
            abstain_precision=options.abstain_precision,
            before=adapter.manifest.calibration,
        )
        changed = with_calibration(adapter, fit, log_probs, rows.labels, rows=read)
        calibration = calibration_line(fit.calibration, changed.manifest.provenance.metrics)
        adapter = changed if fit.is_fitted or options.abstain_precision is not None else adapter
    return AdapterEvaluation(
        metrics=metrics,
        intervals=rows.intervals(log_probs, task.scoring, served),
        precisions=compared,
        generated=_generated(scored, loss=metrics.loss, policy=options.generated) if options.generated else None,
        perturbed={name: _perturbed(scored, name) for name in (PERTURBATIONS if options.robustness else ())},
        fit=fit,
        calibration=calibration,
        adapter=with_profile(adapter, log_probs),
        labels=scored.label_figures(),
        notes=read.notes,
    )


def _generated(scored: ScoredRows, *, loss: float, policy: InvalidPolicy) -> Comparison:
    """Compare with what the same prompt generates freely."""
    found = generated(scored.backbone, scored.adapter, scored.rows)
    metrics = measure_answers(
        found,
        scored.rows.labels,
        num_labels=scored.log_probs.shape[1],
        loss=loss,
        scoring=scored.scoring,
        groups=scored.rows.groups,
    )
    return Comparison(
        under_policy(metrics, found, policy), scored.agreement(found), invalid=float((found == INVALID).mean())
    )


def _perturbed(scored: ScoredRows, name: str) -> Comparison:
    """Compare with the predictions on perturbed texts."""
    examples = perturbed(scored.examples, name, spec=scored.adapter.spec)
    rows = tokenize_examples(scored.backbone, scored.adapter.spec, examples)
    found = answers(scored.backbone, scored.adapter, rows)
    metrics = rows.measured(found, scored.scoring, scored.adapter.manifest.calibration)
    return Comparison(metrics, scored.agreement(adapter_decisions(scored.adapter, found)))
