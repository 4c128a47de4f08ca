"""Answers of an adapter on held-out rows, and the parts of it made from them: profile and calibration."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.adapter import INT8_LABEL_AGREEMENT
from adapters.calibration import calibrated
from adapters.profile import profile_of
from backbone import Backbone
from training.data.examples import RowFile, read_shards
from training.errors import InvalidData
from training.scoring.calibration import CalibrationFit, halves_figures
from training.scoring.evaluation import TokenizedRows, predict
from training.scoring.generation import generated_answers
from training.scoring.metrics import Metrics
from training.task.scoring import ACCURACY, Scoring
from training.task.task_file import TaskFile

_OF_A_THRESHOLD = frozenset(
    f"{role}_{name}" for role in ("report", "selection") for name in ("coverage", "answered_accuracy")
)


def answers(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.float32]:
    """Label log-probabilities [n, K] of rows by the serving scorer."""
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return predict(backbone, prompt, backbone.label_trie(adapter.spec.label_words), rows.token_ids)


def adapter_task(task: TaskFile, adapter: PromptAdapter) -> TaskFile:
    """Adapt a task file's rows and metrics to the adapter's template and labels, which may have another order.

    Raises:
        InvalidData: their labels are not the same, or are of another kind
    """
    ours, theirs = adapter.spec, task.spec
    if ours.kind != theirs.kind or set(ours.label_names) != set(theirs.label_names):
        raise InvalidData(
            f"task {task.name!r} has the {theirs.kind} labels {', '.join(theirs.label_names)}, "
            f"expected the adapter's, {ours.kind} {', '.join(ours.label_names)}"
        )
    return task.model_copy(update={"spec": ours, "positive": theirs.label_names[task.scoring.positive]})


def read_adapter_rows(backbone: Backbone, adapter: PromptAdapter, task: TaskFile, *paths: Path) -> RowFile:
    """The rows of a file, or of the files that are its parts, under the adapter's own template and labels.

    Raises:
        InvalidAdapter: it was trained for another backbone
        InvalidData: the file is bad, or its labels or the task's are not the adapter's
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    return read_shards(paths, adapter_task(task, adapter))


def generated(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.int64]:
    """Generate freely for each row; return labels or INVALID, [n]."""
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return generated_answers(backbone, prompt, adapter.spec, rows.token_ids)


def with_calibration(
    adapter: PromptAdapter,
    fit: CalibrationFit,
    log_probs: NDArray[np.float32],  # [n, K]
    labels: NDArray[np.int64],  # [n]
    *,
    rows: RowFile,
) -> PromptAdapter:
    """The adapter with a calibration that was fitted on these rows, what it is worth on them, and which they are.

    Figures of the one before go.
    """
    provenance = adapter.manifest.provenance
    figures = {f"report_{name}": round(value, 6) for name, value in halves_figures(fit, log_probs, labels).items()}
    described = {
        "calibration_file": rows.path.name,
        "calibration_sha256": rows.sha256,
        "calibration_rows": len(labels),
        **({"calibration_measured": "halves"} if fit.is_fitted else {}),
    }
    metrics = {name: value for name, value in provenance.metrics.items() if name not in _OF_A_THRESHOLD}
    data = {name: value for name, value in provenance.data.items() if not name.startswith("calibration_")}
    changes = {
        "calibration": fit.calibration,
        "provenance": provenance.model_copy(update={"metrics": metrics | figures, "data": data | described}),
    }
    return replace(adapter, manifest=adapter.manifest.model_copy(update=changes))


def with_profile(adapter: PromptAdapter, log_probs: NDArray[np.float32]) -> PromptAdapter:
    """The adapter with the profile of its answers [n, K], calibrated as they are served; it has a digest of its own."""
    profile = profile_of(calibrated(log_probs, adapter.manifest.calibration.temperature))
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"validation": profile}))


@dataclass(frozen=True, slots=True)
class Int8Comparison:
    """An adapter in both precisions over the same rows."""

    fp32: Metrics
    int8: Metrics
    label_agreement: float
    """Share of the rows that get the same label, 0 to 1."""

    def figures(self) -> dict[str, float]:
        """Figures for the adapter's provenance, which a server in int8 requires."""
        return {
            INT8_LABEL_AGREEMENT: round(self.label_agreement, 6),
            "int8_accuracy": round(self.int8.accuracy, 6),
        }


def compare_int8(
    int8: Backbone,
    adapter: PromptAdapter,
    rows: TokenizedRows,
    fp32: NDArray[np.float32],
    *,
    scoring: Scoring = ACCURACY,
) -> Int8Comparison:
    """Score rows by a backbone in int8, to compare with their label log-probabilities [n, K] under the float32 one."""
    answered = answers(int8, adapter, rows)
    same = fp32.argmax(1) == answered.argmax(1)
    return Int8Comparison(rows.measured(fp32, scoring), rows.measured(answered, scoring), float(np.mean(same)))


def recorded(adapter: PromptAdapter, comparison: Int8Comparison) -> PromptAdapter:
    """The adapter with the comparison in its provenance; it has a digest of its own."""
    provenance = adapter.manifest.provenance
    metrics = {**provenance.metrics, **comparison.figures()}
    manifest = adapter.manifest.model_copy(update={"provenance": provenance.model_copy(update={"metrics": metrics})})
    return replace(adapter, manifest=manifest)
