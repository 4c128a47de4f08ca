"""Runs the cells of a grid that are not finished, in stacks; a cell that fails leaves the others alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.errors import AdapterError
from backbone import Backbone, BackboneError, Precision
from training.errors import TrainingError
from training.loop.events import EvalEvent, StepEvent, TrainResult
from training.loop.train import train_stack
from training.paper.grid import Cell, Grid, stacks
from training.paper.grid_folder import Asked, asked_of, begin, pending, read_cell, write_cell
from training.paper.results import CellResult, CurvePoint
from training.runs.lock import locked
from training.runs.run import Preparation, RunOptions, RunReport, finish, prepare
from training.runs.scorer import Scorer
from training.runs.task_rows import RunRows, TaskRows
from training.scoring.metrics import Metrics
from training.task.task_file import TaskFile

FAILURES = (TrainingError, AdapterError, BackboneError, RuntimeError, ValueError, OSError)
"""What a cell may fail of. PyTorch's own, memory among them, are `RuntimeError`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEvents:
    """Who wants to hear how a grid goes."""

    on_stack: Callable[[Sequence[Cell]], None] = lambda cells: None
    """These cells begin together."""
    on_step: Callable[[Cell, StepEvent], None] = lambda cell, event: None
    on_evaluation: Callable[[Cell, EvalEvent], None] = lambda cell, event: None
    on_done: Callable[[Cell, CellResult], None] = lambda cell, result: None
    on_failed: Callable[[Cell, str], None] = lambda cell, reason: None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOutcome:
    """How a sitting ended."""

    finished: tuple[Cell, ...]
    """In this sitting."""
    failed: dict[Cell, str]
    """With what each said."""
    interrupted: bool


def run_grid(
    backbone: Backbone,
    grid: Grid,
    tasks: Mapping[str, TaskFile],
    folder: Path,
    *,
    max_slots: int = 16,
    precision: Precision = "fp32",
    events: GridEvents | None = None,
) -> GridOutcome:
    """Train what is left of a grid. An interrupt (Ctrl-C) ends it; cells under way begin anew the next time.

    Args:
        tasks: by name, all of the grid's
        max_slots: cells that train in one packed batch
        precision: of the frozen network while it trains

    Raises:
        DeviceUnavailable: the device does not compute in that precision
        InvalidArguments: the folder holds cells that were asked for something else
        InvalidData: it holds a file that is no cell's
    """
    left = pending(folder, grid, tasks, fingerprint=backbone.identity.fingerprint)
    sitting = _Sitting(backbone, grid, tasks, folder, events or GridEvents(), precision=precision)
    try:
        for cells in stacks(left, max_slots=max_slots):
            sitting.run(cells)
    except KeyboardInterrupt:
        return sitting.outcome(interrupted=True)
    return sitting.outcome(interrupted=False)


class _Sitting:
    """What the stacks of one sitting share, and what came of them."""

    def __init__(
        self,
        backbone: Backbone,
        grid: Grid,
        tasks: Mapping[str, TaskFile],
        folder: Path,
        events: GridEvents,
        *,
        precision: Precision,
    ) -> None:
        self._backbone, self._frozen = backbone, backbone.in_precision(precision)
        """What scores, and what trains: the same in another precision."""
        self._grid, self._tasks, self._folder = grid, tasks, folder
        self._events = events
        self._finished: list[Cell] = []
        self._failed: dict[Cell, str] = {}
        self._scorer = Scorer(backbone)

    def outcome(self, *, interrupted: bool) -> GridOutcome:
        return GridOutcome(finished=tuple(self._finished), failed=self._failed, interrupted=interrupted)

    def run(self, cells: Sequence[Cell]) -> None:
        """Train one stack; where it fails as a whole, each of its cells alone."""
        with ExitStack() as held:
            failed = self._run_together(cells, held)
        for cell in failed:
            self.run([cell])

    def _run_together(self, cells: Sequence[Cell], held: ExitStack) -> list[Cell]:
        """Train one stack, its folders locked; cells that may do better alone come back."""
        self._events.on_stack(cells)
        began = time.monotonic()
        task = self._tasks[cells[0].task]
        try:
            rows = self._rows(task, cells[0].seed)
        except FAILURES as exc:
            for cell in cells:
                self._fail(cell, exc)
            return []
        prepared = self._prepare(task, rows, cells, held)
        try:
            results = train_stack(self._frozen, [preparation.job for preparation in prepared.values()])
        except FAILURES as exc:
            if len(cells) > 1:
                return list(prepared)
            self._fail(cells[0], exc)
            return []
        share_s = (time.monotonic() - began) / max(1, len(prepared))
        for (cell, preparation), result in zip(prepared.items(), results, strict=True):
            if result.stop != "interrupted":
                self._finish(cell, preparation, result, share_s=share_s)
        if any(result.stop == "interrupted" for result in results):
            raise KeyboardInterrupt
        return []

    def _rows(self, task: TaskFile, seed: int) -> RunRows:
        budget = self._grid.budget
        return TaskRows(self._backbone, task).divided(
            split=self._grid.split,
            seed=seed,
            limit=budget.max_train_rows,
            max_selection=budget.max_selection,
            max_report=budget.max_report,
        )

    def _prepare(
        self, task: TaskFile, rows: RunRows, cells: Sequence[Cell], held: ExitStack
    ) -> dict[Cell, Preparation]:
        prepared = {}
        for cell in cells:
            try:
                held.enter_context(locked(self._folder / cell.path))
                if read_cell(self._folder / cell.path) is not None:
                    continue  # another process has finished it since this one looked
                options = RunOptions(
                    task=task,
                    arguments=self._grid.arguments(cell),
                    folder=begin(self._folder / cell.path),
                    split=self._grid.split,
                    limit=self._grid.budget.max_train_rows,
                    rows=rows,
                    precision=self._precision_of(cell),
                    check_int8=False,  # nobody serves these adapters, and it takes as long as scoring the report rows
                    on_step=partial(self._events.on_step, cell),
                    on_evaluation=partial(self._events.on_evaluation, cell),
                )
                prepared[cell] = prepare(self._backbone, options)
            except FAILURES as exc:
                self._fail(cell, exc)
        return prepared

    def _precision_of(self, cell: Cell) -> Precision:
        """Full fine-tuning trains a network of its own, in float32."""
        return "fp32" if cell.variant.arguments.method == "full" else self._frozen.precision

    def _finish(self, cell: Cell, prepared: Preparation, result: TrainResult, *, share_s: float) -> None:
        began = time.monotonic()
        try:
            report = finish(self._scorer, prepared, result)
            task = prepared.options.task
            asked = asked_of(self._grid, cell, task, fingerprint=self._backbone.identity.fingerprint)
            value = _result(cell, asked, prepared, report, seconds=share_s + time.monotonic() - began)
            write_cell(self._folder / cell.path, value)
        except FAILURES as exc:
            self._fail(cell, exc)
            return
        self._finished.append(cell)
        self._events.on_done(cell, value)

    def _fail(self, cell: Cell, exc: Exception) -> None:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        self._failed[cell] = reason
        self._events.on_failed(cell, reason)


def _result(cell: Cell, asked: Asked, prepared: Preparation, report: RunReport, *, seconds: float) -> CellResult:
    result = report.result
    return CellResult(
        variant=cell.variant.name,
        task=cell.task,
        seed=cell.seed,
        asked=asked,
        metrics=prepared.options.task.metrics,
        data=prepared.rows.described,
        untrained=_figures(report.untrained),
        selection=_figures(report.appraisal.selection),
        report=_figures(report.trained),
        collapsed=report.trained.collapsed,
        stop=result.stop,
        steps=result.evaluations[-1].step,
        best_step=result.best_step,
        curve=tuple(_point(event) for event in result.evaluations),
        stack_size=result.timing.stack_size,
        seconds=round(seconds, 2),
        precision="bf16" if prepared.options.precision == "bf16" else "fp32",
        digest=None if report.adapter is None else report.adapter.digest,
    )


def _figures(metrics: Metrics) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.figures().items()}


def _point(event: EvalEvent) -> CurvePoint:
    return CurvePoint(
        step=event.step,
        train_loss=None if event.train_loss is None else round(event.train_loss, 6),
        loss=round(event.metrics.loss, 6),
        score=round(event.metrics.score, 6),
    )
