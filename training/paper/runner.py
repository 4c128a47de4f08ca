"""Training of a grid's unfinished cells in stacks; a cell that fails leaves the others alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone import Backbone, Precision, check_device
from training.config.choices import OWN_MODEL
from training.loop.events import EvalEvent, StepEvent
from training.paper.grid import Cell, Grid, stacks
from training.paper.grid_folder import Asked, asked_of, begin, pending, read_cell, write_cell
from training.paper.results import CellResult, CurvePoint
from training.runs.executor import Event, FailEvent, train_runs
from training.runs.folder import RunFolder
from training.runs.plan import RunPlan
from training.runs.run import RunReport
from training.runs.scorer import Scorer
from training.scoring.metrics import Metrics
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEvents:
    """Observer of a grid's progress."""

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
    """Train the unfinished cells of a grid. Ctrl-C ends it; cells in progress start again the next time.

    Args:
        tasks: by name, all of the grid's
        max_slots: cells that train in one packed batch
        precision: of the frozen network while it trains

    Raises:
        DeviceUnavailable: the device does not compute in that precision
        InvalidArguments: the folder holds cells with other settings
        InvalidData: the folder holds an invalid cell file
    """
    left = pending(folder, grid, tasks, fingerprint=backbone.identity.fingerprint)
    run = GridRun(backbone, grid, tasks, folder, events or GridEvents(), precision=precision)
    try:
        for cells in stacks(left, max_slots=max_slots):
            run.train(cells)
    except KeyboardInterrupt:
        return run.outcome(interrupted=True)
    return run.outcome(interrupted=False)


class GridRun:
    """State that the stacks of one `run_grid` share, and their outcome."""

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
        check_device(backbone.device, precision)
        self._grid, self._tasks, self._folder = grid, tasks, folder
        self._events, self._precision = events, precision
        self._finished: list[Cell] = []
        self._failed: dict[Cell, str] = {}
        self._scorer = Scorer(backbone)

    def outcome(self, *, interrupted: bool) -> GridOutcome:
        return GridOutcome(finished=tuple(self._finished), failed=self._failed, interrupted=interrupted)

    def train(self, cells: Sequence[Cell]) -> None:
        """Train one stack and write the result of each cell."""
        self._events.on_stack(cells)

        def on_event(number: int, event: Event) -> None:
            match event:
                case StepEvent():
                    self._events.on_step(cells[number], event)
                case EvalEvent():
                    self._events.on_evaluation(cells[number], event)
                case FailEvent():
                    self._failed[cells[number]] = event.reason
                    self._events.on_failed(cells[number], event.reason)

        train_runs(
            self._scorer.backbone,
            [self._plan(cell) for cell in cells],
            on_event=on_event,
            on_report=lambda number, report: self._keep(cells[number], report),
            open_folder=_open,
            scorer=self._scorer,
            resumable=False,
            isolate_failures=True,
        )

    def _plan(self, cell: Cell) -> RunPlan:
        budget = self._grid.budget
        return RunPlan(
            task=self._tasks[cell.task],
            arguments=self._grid.arguments(cell),
            folder=self._folder / cell.path,
            split=self._grid.split,
            limit=budget.max_train_rows,
            max_selection=budget.max_selection,
            max_report=budget.max_report,
            # such methods train a network of their own, in float32
            precision="fp32" if cell.variant.arguments.method in OWN_MODEL else self._precision,
            baselines=False,  # a grid compares its own lines
            compare_precisions=False,  # these adapters are not served, and the comparison takes as long as scoring them
        )

    def _keep(self, cell: Cell, report: RunReport) -> None:
        fingerprint = self._scorer.backbone.identity.fingerprint
        asked = asked_of(self._grid, cell, report.plan.task, fingerprint=fingerprint)
        value = _result(cell, asked, report)
        write_cell(report.folder, value)
        self._finished.append(cell)
        self._events.on_done(cell, value)


def _open(plan: RunPlan) -> RunFolder | None:
    """Open a cell's folder; another process may have finished the cell in the meantime."""
    return begin(plan.folder) if read_cell(plan.folder) is None else None


def _result(cell: Cell, asked: Asked, report: RunReport) -> CellResult:
    result = report.result
    return CellResult(
        variant=cell.variant.name,
        task=cell.task,
        seed=cell.seed,
        asked=asked,
        metrics=report.plan.task.metrics,
        data=report.rows.described,
        untrained=_figures(report.untrained),
        selection=_figures(report.measured.selection),
        report=_figures(report.trained),
        collapsed=report.trained.collapsed,
        stop=result.stop,
        steps=result.evaluations[-1].step,
        best_step=result.best_step,
        curve=tuple(_point(event) for event in result.evaluations),
        stack_size=result.timing.stack_size,
        seconds=round(report.seconds, 2),
        precision="bf16" if report.plan.precision == "bf16" else "fp32",
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
