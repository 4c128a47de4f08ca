"""What a finished run's folder says that it came to, whichever process trained it and whenever."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter import PromptAdapter
from adapters.calibration import Calibration
from training.data.folds import Fold
from training.errors import InvalidData
from training.loop.events import Stop, TrainResult
from training.runs.layout import RESULT, RUN
from training.runs.report_metrics import ReportMetrics
from training.scoring.bootstrap import Interval, read_intervals
from training.scoring.calibration import calibration_line
from training.scoring.metrics import Metrics
from training.task.scoring import METRIC_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run with its figures, rounded as the files have them."""

    folder: Path
    digest: str | None
    """The adapter's; None where the method leaves none."""
    stop: Stop
    best_epoch: int
    best_step: int
    """0: no prompt was better than the untrained one."""
    untrained: Metrics
    """The prompt before training, on the report rows."""
    selection: Metrics
    """The best prompt, on the rows that chose it."""
    trained: Metrics
    """The best prompt, on the report rows."""
    intervals: Mapping[str, Interval]
    """Of the trained prompt's metrics."""
    calibration: str | None
    """What its calibration came to; None where its adapter was made before there was one."""
    calibration_notes: tuple[str, ...]
    """What of it could not be done."""
    num_truncated: int
    """Training rows that were cut to the task's token limit."""
    split: str
    lr: float
    seed: int
    fold: Fold | None
    """The one that was reported, of a cross-validation."""


def result_figures(untrained: Metrics, measured: ReportMetrics) -> dict[str, float]:
    """What a run came to in figures, by their role and name; `untrained` is of the report rows."""
    trained = measured.metrics
    parts = {"untrained": untrained, "selection": measured.selection, "report": trained}
    figures = {
        f"{role}_{name}": round(value, 6)
        for role, metrics in parts.items()
        for name, value in metrics.figures().items()
    }
    return figures | {"collapsed": float(trained.collapsed)} | measured.figures()


def result_values(
    adapter: PromptAdapter | None,
    result: TrainResult,
    measured: ReportMetrics,
    *,
    figures: Mapping[str, float],
    num_truncated: int,
) -> dict[str, object]:
    """What `read_outcome` reads of a run's result."""
    return {
        "adapter": None if adapter is None else adapter.digest,
        "stop": result.stop,
        "best_epoch": result.best_epoch,
        "best_step": result.best_step,
        "num_truncated": num_truncated,
        "metrics": dict(figures),
        "calibration": measured.fit.calibration.model_dump(mode="json"),
        "calibration_notes": measured.fit.notes,
        **measured.described(),
    }


def read_outcome(folder: Path) -> RunResult:
    """What the run in a folder came to.

    Raises:
        InvalidData: there is none, or its files are not a run's
    """
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return RunResult(
            folder=folder,
            digest=result["adapter"],
            stop=result["stop"],
            best_epoch=result["best_epoch"],
            best_step=result["best_step"],
            untrained=_metrics(result["metrics"], "untrained"),
            selection=_metrics(result["metrics"], "selection"),
            trained=_metrics(result["metrics"], "report"),
            intervals=read_intervals(result["metrics"], role="report"),
            calibration=_calibration(result),
            calibration_notes=tuple(result.get("calibration_notes", ())),
            num_truncated=result["num_truncated"],
            split=run["split"],
            lr=run["arguments"]["lr"],
            seed=run["arguments"]["seed"],
            fold=_fold(run["data"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InvalidData(f"{folder} holds no run that has come to something: {exc!r}") from exc


def _calibration(result: Mapping[str, Any]) -> str | None:
    if "report_ece" not in result["metrics"]:
        return None
    return calibration_line(Calibration.model_validate(result["calibration"]), result["metrics"])


def _fold(data: Mapping[str, Any]) -> Fold | None:
    return Fold(number=data["fold"], of=data["folds"]) if "fold" in data else None


def _metrics(figures: Mapping[str, Any], role: str) -> Metrics:
    """The inverse of `Metrics.figures`, for one of the roles that a run's figures are named after."""
    measured = [name for name in METRIC_NAMES if f"{role}_{name}" in figures]
    return Metrics(
        values={name: figures[f"{role}_{name}"] for name in measured},
        score=figures[f"{role}_score"],
        loss=figures[f"{role}_loss"],
        constants={name: figures[f"{role}_constant_{name}"] for name in measured},
        constant_score=figures[f"{role}_constant_score"],
        collapsed=role == "report" and figures["collapsed"] == 1,
    )
