"""Reads the folder of a finished run into one value; needs neither torch nor the backbone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from adapters.calibration import Calibration, calibrated
from adapters.regular_files import read_regular
from training.errors import InvalidData
from training.runs.layout import (
    COST,
    MAX_JSON_BYTES,
    METHOD,
    METRICS,
    PREDICTIONS,
    RESULT,
    RUN,
    STEPS,
    WORDS,
    read_json,
)
from training.scoring.fitted_rows import FittedRows
from training.scoring.predictions import Predictions, read_predictions
from training.task.task_file import TaskFile

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunRecord:
    """One finished run, read from its folder."""

    path: Path
    task: TaskFile
    run: Json
    """`run.json`: arguments, split, data, backbone, environment, command, start."""
    result: Json
    """`result.json`: stop, best step, metrics, calibration."""
    evaluations: tuple[Json, ...]
    """`metrics.jsonl`, by step."""
    steps: NDArray[np.float64]  # [n, 2]: step, loss
    predictions: Predictions | None
    weights: NDArray[np.float32] | None  # p′ [P, m]; None for a method without
    words: Json | None
    cost: Json | None

    @property
    def arguments(self) -> Json:
        arguments: Json = self.run["arguments"]
        return arguments

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures of the best prompt (`report_…`, `selection_…`) and of the untrained one (`untrained_…`)."""
        metrics: Mapping[str, float] = self.result["metrics"]
        return metrics

    @property
    def fitted_rows(self) -> FittedRows | None:
        """The rows of a head that was fitted to few rows; None for another run."""
        return FittedRows.read(self.result)

    @property
    def temperature(self) -> float:
        return float(self.result["calibration"]["temperature"])

    def probabilities(self, predictions: Predictions) -> NDArray[np.float64]:
        """Calibrated probabilities of the report rows, [n, K]."""
        return calibrated(predictions.log_probs, self.temperature, multi_label=predictions.is_multi_label)

    @property
    def label_thresholds(self) -> NDArray[np.float64]:
        """The threshold of each label of a multi-label task, [K]."""
        calibration = Calibration.model_validate(self.result["calibration"])
        return calibration.thresholds(len(self.task.spec.labels))


def read_run(path: Path) -> RunRecord:
    """Read the folder of a finished run.

    Raises:
        InvalidData: no finished run is there, or a file of it is broken
    """
    if not (path / RESULT).is_file():
        raise InvalidData(f"{path}: no finished run there: expected a folder with {RESULT}")
    run, result = _json(path / RUN), _json(path / RESULT)
    try:
        task = TaskFile.model_validate(run["task"])
    except (KeyError, ValidationError) as exc:
        raise InvalidData(f"{path / RUN}: no task in it that this version reads: {str(exc).splitlines()[0]}") from exc
    names = task.spec.label_names
    has_predictions = (path / PREDICTIONS).is_file()
    return RunRecord(
        path=path,
        task=task,
        run=run,
        result=result,
        evaluations=_lines(path / METRICS),
        steps=np.array([(line["step"], line["loss"]) for line in _lines(path / STEPS)], dtype=float).reshape(-1, 2),
        predictions=read_predictions(path / PREDICTIONS, names) if has_predictions else None,
        weights=_weights(path / METHOD),
        words=_json(path / WORDS) if (path / WORDS).is_file() else None,
        cost=_json(path / COST) if (path / COST).is_file() else None,
    )


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders of the runs that paths name: each a run's folder, or one that holds runs, however deep.

    Raises:
        InvalidData: a path without a finished run in it
    """
    found: dict[Path, None] = {}
    for path in paths:
        inner = [path] if (path / RUN).is_file() else sorted(file.parent for file in path.rglob(RESULT))
        if not inner:
            raise InvalidData(f"{path}: no finished run there: expected a folder with {RESULT}, or one of such folders")
        found |= dict.fromkeys(inner)
    return list(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError) as exc:
        raise InvalidData(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidData(f"{path}: {type(value).__name__}, expected an object")
    return value


def _text(path: Path) -> str:
    return read_regular(path, max_bytes=MAX_JSON_BYTES).decode()


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    """The objects of a file of lines; none where there is no such file."""
    if not path.is_file():
        return ()
    try:
        return tuple(json.loads(line) for line in _text(path).splitlines())
    except (OSError, ValueError) as exc:
        raise InvalidData(f"{path}: cannot be read: {exc}") from exc


def _weights(path: Path) -> NDArray[np.float32] | None:
    if not path.is_file():
        return None
    try:
        weights = safetensors.numpy.load_file(path).get("weights")
    except (SafetensorError, OSError) as exc:
        raise InvalidData(f"{path}: cannot be read: {exc}") from exc
    return weights.astype(np.float32) if weights is not None and weights.ndim == 2 else None
