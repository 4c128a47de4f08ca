"""Results of finished runs, as their folders hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter import PromptAdapter
from adapters.baselines import Baseline, read_baselines
from adapters.calibration import Calibration
from training.data.folds import Fold
from training.errors import InvalidData
from training.loop.events import Stop, TrainResult
from training.runs.layout import RESULT, RUN, read_json
from training.runs.scorer import ReportMetrics
from training.scoring.bootstrap import Interval, read_intervals
from training.scoring.calibration import calibration_line
from training.scoring.fitted_rows import FittedRows
from training.scoring.metrics import Metrics
from training.task.scoring import METRIC_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Results of a finished run, rounded as in its files."""

    folder: Path
    digest: str | None
    """The adapter's; None where the method leaves none."""
    stop: Stop
    best_epoch: int
    best_step: int
    """0 if the untrained prompt was the best."""
    untrained: Metrics
    """The prompt before training, on the report rows."""
    selection: Metrics
    """The best prompt, on the rows that selected it."""
    num_selection: int
    """Selection rows."""
    fitted_rows: FittedRows | None
    """Set for a head that was fitted to the selection rows too, and whose `selection` is out of fold."""
    trained: Metrics
    """The best prompt, on the report rows."""
    intervals: Mapping[str, Interval]
    """Intervals of the trained prompt's metrics."""
    baselines: tuple[Baseline, ...]
    """On the report rows; empty if they were not measured."""
    calibration: str | None
    """The calibration in one line; None for an adapter from before calibration existed."""
    calibration_notes: tuple[str, ...]
    """Reasons why the calibration is incomplete."""
    num_truncated: int
    """Training rows truncated to the task's token limit."""
    split: str
    method: str
    readout: str
    lr: float
    seed: int
    fold: Fold | None
    """The reported fold of a cross-validation."""

    @property
    def is_collapsed(self) -> bool:
        """Whether one answer is all that was learned: few report rows may be alike, so selection rows must agree."""
        return self.trained.collapsed and self.selection.score <= self.selection.constant_score


def result_figures(untrained: Metrics, measured: ReportMetrics) -> dict[str, float]:
    """Return all figures of a run by role and name; `untrained` is on the report rows."""
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
    """Return the content of a run's result file, which `read_run_result` reads."""
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


def read_run_result(folder: Path) -> RunResult:
    """Read the results of the run in a folder.

    Raises:
        InvalidData: the folder has no finished run, or its files are invalid
    """
    try:
        run = read_json(folder / RUN)
        result = read_json(folder / RESULT)
        return RunResult(
            folder=folder,
            digest=result["adapter"],
            stop=result["stop"],
            best_epoch=result["best_epoch"],
            best_step=result["best_step"],
            untrained=_metrics(result["metrics"], "untrained"),
            selection=_metrics(result["metrics"], "selection"),
            num_selection=run["data"]["selection_rows"],
            fitted_rows=FittedRows.read(result),
            trained=_metrics(result["metrics"], "report"),
            intervals=read_intervals(result["metrics"], role="report"),
            baselines=tuple(read_baselines(result["metrics"])),
            calibration=_calibration(result),
            calibration_notes=tuple(result.get("calibration_notes", ())),
            num_truncated=result["num_truncated"],
            split=run["split"],
            method=run["arguments"]["method"],
            readout=run["arguments"].get("readout", "words"),
            lr=run["arguments"]["lr"],
            seed=run["arguments"]["seed"],
            fold=_fold(run["data"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InvalidData(f"{folder} has no finished run: {exc!r}") from exc


def _calibration(result: Mapping[str, Any]) -> str | None:
    if "report_ece" not in result["metrics"]:
        return None
    return calibration_line(Calibration.model_validate(result["calibration"]), result["metrics"])


def _fold(data: Mapping[str, Any]) -> Fold | None:
    return Fold(number=data["fold"], of=data["folds"]) if "fold" in data else None


def _metrics(figures: Mapping[str, Any], role: str) -> Metrics:
    """Invert `Metrics.figures` for one of the roles in a run's figures."""
    measured = [name for name in METRIC_NAMES if f"{role}_{name}" in figures]
    return Metrics(
        values={name: figures[f"{role}_{name}"] for name in measured},
        score=figures[f"{role}_score"],
        loss=figures[f"{role}_loss"],
        constants={name: figures[f"{role}_constant_{name}"] for name in measured},
        constant_score=figures[f"{role}_constant_score"],
        collapsed=role == "report" and figures["collapsed"] == 1,
    )
