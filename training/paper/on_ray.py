"""Training of a grid's stacks on Ray: each task of Ray's trains one stack and returns the files of its cells.

Ray repeats the task of a worker that dies, so a death costs the work of one stack. A node reads the rows itself: the
data files must be at the same paths on all of them.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from adapters.atomic_files import atomic_write
from backbone import Backbone, Precision
from training.errors import InvalidArguments
from training.paper.grid import Cell, Grid, stacks
from training.paper.grid_folder import CELL, pending, read_cell
from training.paper.runner import GridEvents, GridOutcome, GridRun
from training.ray_cluster import num_places
from training.task.task_file import TaskFile

MAX_ATTEMPTS = 3
"""How often a stack is trained whose worker dies."""

_loaded: list[Backbone] = []
"""The backbone of this worker process, which Ray uses for one stack after another."""


@dataclass(frozen=True, slots=True)
class TrainedStack:
    """Results of one stack."""

    files: dict[Cell, dict[str, bytes]]
    """The files of each finished cell's folder, by their paths in it."""
    failed: dict[Cell, str]
    """Reasons of the others."""


@dataclass(slots=True)
class _Progress:
    finished: list[Cell] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)

    def outcome(self, *, interrupted: bool) -> GridOutcome:
        return GridOutcome(finished=tuple(self.finished), failed=self.failed, interrupted=interrupted)


def run_grid_on_ray(
    load: Callable[[], Backbone],
    fingerprint: str,
    grid: Grid,
    tasks: Mapping[str, TaskFile],
    folder: Path,
    *,
    max_slots: int = 16,
    precision: Precision = "fp32",
    events: GridEvents | None = None,
    threads: int = 1,
    gpus: int = 0,
) -> GridOutcome:
    """Train the unfinished cells of a grid on the connected cluster. Ctrl-C ends it; finished cells are kept.

    Steps and evaluations are not reported while a stack trains.

    Args:
        load: loads the backbone on a worker
        fingerprint: of the driver's backbone, which the workers' must have
        tasks: by name, all of the grid's
        max_slots: cells that train in one packed batch
        precision: of the frozen network while it trains
        threads: CPU cores per worker
        gpus: GPUs per worker

    Raises:
        InvalidArguments: the cluster is too small for a worker, a worker's backbone differs, or the folder holds cells
            with other settings
        InvalidData: the folder holds an invalid cell file, or a worker cannot read the rows
    """
    events = events or GridEvents()
    places = num_places(threads=threads, gpus=gpus)
    resources: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus, "max_retries": MAX_ATTEMPTS - 1}
    train: Any = ray.remote(**resources)(train_stack)
    given = ray.put((grid, dict(tasks)))
    waiting = stacks(pending(folder, grid, tasks, fingerprint=fingerprint), max_slots=max_slots)[::-1]
    busy: dict[Any, Sequence[Cell]] = {}
    progress = _Progress()
    try:
        while waiting or busy:
            while waiting and len(busy) < places:
                cells = waiting.pop()
                busy[train.remote(load, fingerprint, given, cells, precision)] = cells
                events.on_stack(cells)
            (call, *_), _ = ray.wait(list(busy))
            _take(call, busy.pop(call), folder, progress, events)
    except KeyboardInterrupt:
        return progress.outcome(interrupted=True)
    return progress.outcome(interrupted=False)


def train_stack(
    load: Callable[[], Backbone],
    fingerprint: str,
    given: tuple[Grid, dict[str, TaskFile]],
    cells: Sequence[Cell],
    precision: Precision,
) -> TrainedStack:
    """Train one stack in a temporary folder; runs on a worker.

    Raises:
        InvalidArguments: the worker's backbone is not the driver's
        InvalidData: the rows cannot be read
    """
    if not _loaded:
        _loaded.append(load())
    (backbone,) = _loaded
    if backbone.identity.fingerprint != fingerprint:
        raise InvalidArguments(
            f"a worker's backbone has the fingerprint {backbone.identity.fingerprint}, expected {fingerprint}"
        )
    grid, tasks = given
    with tempfile.TemporaryDirectory(prefix="superpos-grid-") as name:
        folder = Path(name)
        run = GridRun(backbone, grid, tasks, folder, GridEvents(), precision=precision)
        run.train(cells)
        outcome = run.outcome(interrupted=False)
        return TrainedStack({cell: _files(folder / cell.path) for cell in outcome.finished}, outcome.failed)


def _take(call: object, cells: Sequence[Cell], folder: Path, progress: _Progress, events: GridEvents) -> None:
    """Keep the results of a stack whose task has ended."""
    try:
        trained: TrainedStack = ray.get(call)  # type: ignore[call-overload]
    except ray.exceptions.RayTaskError as exc:
        raise exc.cause from exc
    except ray.exceptions.RayError as exc:  # no worker survived it
        trained = TrainedStack({}, dict.fromkeys(cells, f"its workers died: {str(exc).strip().splitlines()[-1]}"))
    for cell, files in trained.files.items():
        path = folder / cell.path
        if read_cell(path) is None:  # another process may have finished it
            _write(path, files)
        result = read_cell(path)
        assert result is not None
        progress.finished.append(cell)
        events.on_done(cell, result)
    for cell, reason in trained.failed.items():
        progress.failed[cell] = reason
        events.on_failed(cell, reason)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a cell's files, last the one that says that it is finished."""
    for name, content in sorted(files.items(), key=lambda each: each[0] == CELL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write({path: content})
