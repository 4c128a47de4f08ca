"""An adapter's answers on labelled rows, and their records in its manifest: profile, calibration, other precisions."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.adapter import LABEL_AGREEMENT, ReducedPrecision
from adapters.calibration import PROMISE_METRICS, calibrated
from adapters.profile import profile_of
from backbone import Backbone
from training.data.examples import RowFile, read_shards
from training.errors import InvalidArguments, InvalidData
from training.readouts.trained import adapter_readout
from training.scoring.calibration import CalibrationFit, halves_figures
from training.scoring.decisions import Labels, are_same, decide
from training.scoring.evaluation import TokenizedRows, predict
from training.scoring.generation import generated_answers
from training.scoring.metrics import Metrics
from training.task.scoring import ACCURACY, Scoring
from training.task.task_file import TaskFile

_OF_A_THRESHOLD = frozenset(
    f"{role}_{name}" for role in ("report", "selection") for name in ("coverage", "answered_accuracy", *PROMISE_METRICS)
)


def answers(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.float32]:
    """Return label log-probabilities [n, K] of rows from the scorer used in serving."""
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return predict(backbone, prompt, adapter_readout(backbone, adapter), rows.token_ids)


def adapter_task(task: TaskFile, adapter: PromptAdapter) -> TaskFile:
    """Combine the rows and metrics of a task file with the adapter's template and labels, whose order may differ.

    Raises:
        InvalidData: the labels or their kind differ
    """
    ours, theirs = adapter.spec, task.spec
    if ours.kind != theirs.kind or set(ours.label_names) != set(theirs.label_names):
        raise InvalidData(
            f"task {task.name!r} has the {theirs.kind} labels {', '.join(theirs.label_names)}, "
            f"expected the adapter's, {ours.kind} {', '.join(ours.label_names)}"
        )
    return task.model_copy(update={"spec": ours, "positive": theirs.label_names[task.scoring.positive]})


def adapter_decisions(adapter: PromptAdapter, log_probs: NDArray[np.float32]) -> Labels:
    """Return an adapter's answers from its log-probabilities [n, K]: [n], or [n, K] in a multi-label task."""
    return decide(log_probs, multi_label=adapter.spec.is_multi_label, calibration=adapter.manifest.calibration)


def read_adapter_rows(backbone: Backbone, adapter: PromptAdapter, task: TaskFile, *paths: Path) -> RowFile:
    """Read the rows of a file, or of its parts, under the adapter's template and labels.

    Raises:
        InvalidAdapter: it was trained for another backbone
        InvalidData: the file is invalid, or its labels or the task's differ from the adapter's
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    return read_shards(paths, adapter_task(task, adapter))


def generated(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.int64]:
    """Return the label that each row generates freely, or INVALID, [n].

    Raises:
        InvalidArguments: the adapter's readout is learned
    """
    if adapter.readout is not None:
        raise InvalidArguments(
            f"free generation needs the readout 'words', the adapter has {adapter.manifest.readout!r}"
        )
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return generated_answers(backbone, prompt, adapter.spec, rows.token_ids)


def with_calibration(
    adapter: PromptAdapter,
    fit: CalibrationFit,
    log_probs: NDArray[np.float32],  # [n, K]
    labels: Labels,
    *,
    rows: RowFile,
) -> PromptAdapter:
    """Record a calibration in an adapter, with its figures on the rows that it was fitted on and their identity.

    Figures of an earlier calibration are removed.
    """
    provenance = adapter.manifest.provenance
    figures = {f"report_{name}": round(value, 6) for name, value in halves_figures(fit, log_probs, labels).items()}
    described = {
        "calibration_file": rows.path.name,
        "calibration_sha256": rows.sha256,
        "calibration_rows": len(labels),
        **({"calibration_measured": "halves"} if fit.is_fitted else {}),
        **({} if fit.thresholds is None else fit.thresholds.described()),
    }
    metrics = {name: value for name, value in provenance.metrics.items() if name not in _OF_A_THRESHOLD}
    data = {name: value for name, value in provenance.data.items() if not name.startswith("calibration_")}
    changes = {
        "calibration": fit.calibration,
        "provenance": provenance.model_copy(update={"metrics": metrics | figures, "data": data | described}),
    }
    return replace(adapter, manifest=adapter.manifest.model_copy(update=changes))


def with_profile(adapter: PromptAdapter, log_probs: NDArray[np.float32]) -> PromptAdapter:
    """Record the profile of an adapter's calibrated answers [n, K]; the result has a new digest.

    The answer of a multi-label row is its most probable label here, as in the counts of live answers.
    """
    temperature = adapter.manifest.calibration.temperature
    profile = profile_of(calibrated(log_probs, temperature, multi_label=adapter.spec.is_multi_label))
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"validation": profile}))


@dataclass(frozen=True, slots=True)
class PrecisionComparison:
    """An adapter in a reduced precision on rows that it was also scored on in float32."""

    precision: ReducedPrecision
    metrics: Metrics
    label_agreement: float
    """Share of the rows with the same label in both, 0 to 1; in a multi-label task, with the same labels."""

    def figures(self) -> dict[str, float]:
        """Return the figures for the adapter's provenance, which a server in this precision requires."""
        return {
            LABEL_AGREEMENT[self.precision]: round(self.label_agreement, 6),
            f"{self.precision}_accuracy": round(self.metrics.accuracy, 6),
        }


def compare(
    reduced: Backbone,
    adapter: PromptAdapter,
    rows: TokenizedRows,
    fp32: NDArray[np.float32],
    *,
    scoring: Scoring = ACCURACY,
) -> PrecisionComparison:
    """Score rows in bf16 or int8, and compare with their float32 label log-probabilities [n, K]."""
    assert reduced.precision != "fp32", "a comparison of float32 with itself"
    answered = answers(reduced, adapter, rows)
    same = are_same(adapter_decisions(adapter, fp32), adapter_decisions(adapter, answered))
    metrics = rows.measured(answered, scoring, adapter.manifest.calibration)
    return PrecisionComparison(reduced.precision, metrics, float(np.mean(same)))


def recorded(adapter: PromptAdapter, comparison: PrecisionComparison) -> PromptAdapter:
    """Record a comparison in an adapter's provenance; the result has a new digest."""
    provenance = adapter.manifest.provenance
    metrics = {**provenance.metrics, **comparison.figures()}
    manifest = adapter.manifest.model_copy(update={"provenance": provenance.model_copy(update={"metrics": metrics})})
    return replace(adapter, manifest=manifest)
