"""Results of a grid's cells as JSON, the only source of every table, plot and page."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.atomic_files import atomic_write
from adapters.errors import first_error
from training.errors import InvalidData

SCHEMA: Literal[1] = 1


def run_path(*, task: str, variant: str, seed: int) -> Path:
    """Name of a cell's run folder in its grid's folder."""
    return Path(task) / variant / f"seed{seed}"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CurvePoint(_Value):
    """One evaluation on the selection rows; step 0 is the untrained prompt."""

    step: int
    train_loss: float | None
    """Mean over the steps since the last evaluation, in nats."""
    loss: float
    score: float


class CellResult(_Value):
    """One finished run."""

    variant: str
    task: str
    seed: int
    asked: dict[str, str | int | float | bool | None]
    """Settings that decide the run: arguments, split, limits, and the identity of task and backbone."""
    metrics: tuple[str, ...]
    """The task's, whose mean is its score; names of figures."""
    data: dict[str, str | int]
    """Files, row counts and sha256 sums."""
    untrained: dict[str, float]
    """Figures of the prompt before training, on the report rows; shares in 0 to 1."""
    selection: dict[str, float]
    """Figures of the best epoch on the rows that chose it."""
    report: dict[str, float]
    """Figures of the best epoch on the report rows."""
    collapsed: bool
    """Every report row got the same answer."""
    stop: str
    steps: int
    best_step: int
    curve: tuple[CurvePoint, ...]
    stack_size: int
    seconds: float
    """Its share of its stack's time, with evaluation."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the frozen network during training; report rows are scored in float32."""
    digest: str | None
    """Digest of its adapter; empty without one (full fine-tuning)."""


class BackboneNamed(_Value):
    """The model that all cells were trained for."""

    id: str
    revision: str
    fingerprint: str


class Similarity(_Value):
    """Cosine similarities of p′ between tasks (Figure 2d), of one variant and seed."""

    variant: str
    seed: int
    tasks: tuple[str, ...]
    matrices: tuple[tuple[tuple[float, ...], ...], ...]  # [P][tasks][tasks]


class Results(_Value):
    """All that one grid folder holds."""

    schema_version: Literal[1] = SCHEMA
    backbone: BackboneNamed
    environment: dict[str, str | int]
    cells: tuple[CellResult, ...]
    similarity: tuple[Similarity, ...] = ()

    def of(self, *, variant: str, task: str) -> list[CellResult]:
        """The seeds of one table cell."""
        return [cell for cell in self.cells if (cell.variant, cell.task) == (variant, task)]


def read_results(path: Path) -> Results:
    """Results out of a file.

    Raises:
        InvalidData: it cannot be read, or is not of this schema
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise InvalidData(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise InvalidData(f"{path}: not the results of a grid: {where}: {message} (got {value})") from exc


def write_results(path: Path, results: Results) -> None:
    """Replace a file as a whole; a list of numbers stays on its line, so that a change reads well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = results.model_dump(mode="json")
    cells = ",\n".join(json.dumps(cell, ensure_ascii=False) for cell in value.pop("cells"))
    similarity = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in value.pop("similarity"))
    head = json.dumps(value, indent=1, ensure_ascii=False).removesuffix("\n}")
    text = f'{head},\n "cells": [\n{cells}\n ],\n "similarity": [\n{similarity}\n ]\n}}\n'
    atomic_write({path: text.encode()})


def in_order(cells: Iterable[CellResult]) -> tuple[CellResult, ...]:
    """Sort cells, so that the file does not depend on the order in which they finished."""
    return tuple(sorted(cells, key=lambda cell: (cell.seed, cell.task, cell.variant)))
