"""Folder of a grid: one run folder per cell, with `cell.json` in each finished one, written last."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from adapters.atomic_files import atomic_write
from backbone import Backbone
from training.data.row_files import sums_at_hand
from training.errors import InvalidArguments, InvalidData
from training.paper.grid import Cell, Grid
from training.paper.results import BackboneNamed, CellResult, Results, in_order, run_path
from training.paper.similarity import similarities
from training.runs.folder import LOCK, RunFolder
from training.runs.identity import identity_fields
from training.runs.layout import RUN
from training.runs.provenance import environment
from training.task.task_file import TaskFile

CELL = "cell.json"
_UNTOLD = frozenset({"device", "devices", "precision"})
"""Arguments that say where a cell is trained, not what it is."""
_BUDGET = (
    *("split", "epochs", "batch_size", "max_steps", "eval_every", "train_rows", "max_selection", "max_report"),
    *("loss", "num_virtual_tokens", "backbone"),
)
"""Settings that all cells of a table share."""

Asked = dict[str, str | int | float | bool | None]


def asked_of(grid: Grid, cell: Cell, task: TaskFile, *, fingerprint: str) -> Asked:
    """Settings that decide a cell's result, by name, for comparison with those of a finished cell."""
    arguments = {
        name: value if isinstance(value, str | int | float | None) else str(value)
        for name, value in asdict(grid.arguments(cell)).items()
        if name not in _UNTOLD
    }
    budget = grid.budget
    described = {"spec": task.spec.model_dump(mode="json"), "metrics": list(task.metrics)}
    # without defaults: a key that a later version adds leaves what was finished before it as it was
    rest = identity_fields(task.model_dump(mode="json", exclude=set(described), exclude_defaults=True))
    return arguments | {
        "split": grid.split,
        "train_rows": budget.max_train_rows,
        "max_selection": budget.max_selection,
        "max_report": budget.max_report,
        "task": _short_sum(described),
        "reading": _short_sum(rest),
        "backbone": fingerprint,
    }


def _short_sum(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def pending(folder: Path, grid: Grid, tasks: Mapping[str, TaskFile], *, fingerprint: str) -> list[Cell]:
    """The cells that are not finished, in the grid's order.

    Raises:
        InvalidArguments: a finished one was asked for something else than this grid asks, or saw other rows
        InvalidData: a cell's file is not one
    """
    left = []
    sums: dict[str, dict[str, str | None]] = {}
    for cell in grid.cells():
        result, task = read_cell(folder / cell.path), tasks[cell.task]
        if result is None:
            left.append(cell)
            continue
        if cell.task not in sums:
            sums[cell.task] = sums_at_hand(task.data)
        path, asked = folder / cell.path, asked_of(grid, cell, task, fingerprint=fingerprint)
        # an argument that is newer than the cell did not decide it
        _check_same(path, result.asked, {name: asked[name] for name in asked.keys() & result.asked.keys()})
        _check_same(path, result.data, sums[cell.task])
    return left


def read_cell(path: Path) -> CellResult | None:
    """The result of a run folder; None where the run is not finished.

    Raises:
        InvalidData: its file is not one
    """
    try:
        return CellResult.model_validate_json((path / CELL).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as exc:
        raise InvalidData(f"{path / CELL}: not a cell's result; remove {path} to train it again") from exc


def write_cell(path: Path, result: CellResult) -> None:
    """Say that a run is finished."""
    atomic_write({path / CELL: (result.model_dump_json(indent=1) + "\n").encode()})


def restore_cells(folder: Path, cells: Iterable[CellResult]) -> int:
    """Write results into a grid's folder where it has none yet: their cells are not trained again. Returns how many."""
    count = 0
    for cell in cells:
        path = folder / run_path(task=cell.task, variant=cell.variant, seed=cell.seed)
        if read_cell(path) is None:
            path.mkdir(parents=True, exist_ok=True)
            write_cell(path, cell)
            count += 1
    return count


def begin(path: Path) -> RunFolder:
    """A fresh run in a folder that this process has locked; what one that did not finish left there goes.

    Raises:
        InvalidArguments: the folder is not a run's
    """
    left = [each for each in path.iterdir() if each.name != LOCK]
    if left and not (path / RUN).exists():
        raise InvalidArguments(f"{path} is in the way of a cell and is not a run; move it or name another --out")
    for each in left:
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
    return RunFolder(path)


def collect(folder: Path, backbone: Backbone) -> Results:
    """Every finished cell of a grid folder, of this grid or of others that shared it.

    Raises:
        InvalidArguments: cells were run under different budgets, for different backbones, or cells of one task on
            different rows: no table compares them
        InvalidData: a cell's file is not one
    """
    found = [read_cell(path.parent) for path in sorted(folder.glob(f"*/*/*/{CELL}"))]
    cells = in_order(cell for cell in found if cell is not None)
    _check_one_budget(folder, cells)
    _check_one_task(folder, cells)
    identity = backbone.identity
    return Results(
        backbone=BackboneNamed(id=identity.id, revision=identity.revision, fingerprint=identity.fingerprint),
        environment=environment(backbone.device),
        cells=cells,
        similarity=similarities(folder, cells),
    )


def _check_one_budget(folder: Path, cells: Sequence[CellResult]) -> None:
    for name in _BUDGET:
        _check_one(folder, name, [cell.asked.get(name) for cell in cells], of="all")


def _check_one_task(folder: Path, cells: Sequence[CellResult]) -> None:
    """Cells of one task saw the same rows and took them to mean the same."""
    for task in dict.fromkeys(cell.task for cell in cells):
        alike = [cell for cell in cells if cell.task == task]
        for name in ("task", "reading"):  # a cell from before `reading` existed does not have it
            told = [cell.asked[name] for cell in alike if name in cell.asked]
            _check_one(folder / task, name, told, of="all of the task")
        for name in ("train_sha256", "validation_sha256"):
            _check_one(folder / task, name, [cell.data.get(name) for cell in alike], of="all of the task")


def _check_one(folder: Path, name: str, values: Sequence[object], *, of: str) -> None:
    if len(distinct := sorted(set(map(str, values)))) > 1:
        raise InvalidArguments(f"{folder} holds cells with {name} {' and '.join(distinct)}, expected one for {of}")


def _check_same(path: Path, was: Mapping[str, object], asked: Mapping[str, object]) -> None:
    for name in sorted(asked):
        if was.get(name) != asked[name]:
            said = f"{name} {was.get(name)!r}, now it is {asked[name]!r}"
            raise InvalidArguments(f"{path} was run with {said}; name another folder with --out")
