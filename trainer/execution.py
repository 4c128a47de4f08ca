"""One job from its rows to an adapter: its runs in a folder, which a checkpoint continues elsewhere."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbone import Backbone, DeviceUnavailable
from service.jobs.models import CurvePoint, Job, Progress
from service.jobs.rows import LabelledRow, TrainingRows
from training.config.recipes import recipes
from training.data.corrections import INPUT, LABEL
from training.errors import InvalidCheckpoint
from training.loop.events import EvalEvent, RestoreEvent, StepEvent
from training.runs.adapter_folder import adapter_files
from training.runs.automatic_precision import automatic_precision, begun_precision
from training.runs.choice import candidates
from training.runs.executor import Event, ScoreEvent, train_runs
from training.runs.folder import LOCK
from training.runs.plan import RunPlan, plan_runs
from training.runs.run_result import RunResult, read_run_result
from training.task.task_file import TaskFile

RUNS = "runs"
"""The folder of the runs, next to the rows."""
MAX_CHECKPOINT_BYTES = 64 << 20
"""A larger checkpoint is not stored: another trainer would begin the job again."""


class JobFailed(Exception):
    """The job cannot succeed; the message says why.

    Args:
        message: for the job's author
        is_internal: whether a bug of the trainer is the cause
    """

    def __init__(self, message: str, *, is_internal: bool = False) -> None:
        super().__init__(message)
        self.is_internal = is_internal


@dataclass(frozen=True, slots=True)
class Trained:
    """The best run of a job."""

    files: Mapping[str, bytes]
    result: RunResult


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is told of a job while it is trained."""

    on_progress: Callable[[Progress], None]
    on_curve: Callable[[Sequence[CurvePoint]], None]
    on_checkpoint: Callable[[], None]


def train_job(
    backbone: Backbone, job: Job, rows: TrainingRows, folder: Path, callbacks: Callbacks, *, checkpoint: bytes | None
) -> Trained:
    """Train a job in a folder and return its best run.

    Args:
        backbone: in float32
        job: what is asked for
        rows: its rows
        folder: empty; rows and runs are written into it
        callbacks: called on the way
        checkpoint: what another trainer left; if it does not fit, the job begins again

    Raises:
        JobFailed: nothing was learned
        TrainingError, AdapterError, BackboneError, RuntimeError: the job's task, rows or arguments do not fit
    """
    task = write_rows(job, rows, folder)
    if checkpoint is not None:
        unpack(checkpoint, folder / RUNS)
        try:
            return _train(backbone, job, task, folder / RUNS, callbacks)
        except (InvalidCheckpoint, DeviceUnavailable):
            shutil.rmtree(folder / RUNS)
    return _train(backbone, job, task, folder / RUNS, callbacks)


def write_rows(job: Job, rows: TrainingRows, folder: Path) -> TaskFile:
    """Write a job's rows as files, and return its task with their places."""
    files = {"train": rows.train, "validation": rows.validation, "corrections": rows.corrections}
    data: dict[str, object] = {name: _write(found, folder / f"{name}.jsonl") for name, found in files.items() if found}
    data |= {"label": LABEL, "columns": {field: f"{INPUT}.{field}" for field in job.spec.fields}}
    metrics = job.metrics or (("micro_f1",) if job.spec.is_multi_label else ("accuracy",))
    return TaskFile.model_validate(
        {
            "name": job.task,
            "description": job.description,
            "spec": job.spec,
            "metrics": metrics,
            "positive": job.positive,
            "data": data,
        }
    )


def pack(runs: Path) -> bytes | None:
    """Return the files of runs that have not ended, from which they continue; None if they are too large."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # tensors do not compress
        for path in sorted(runs.rglob("*")):
            if path.is_file() and path.name != LOCK:
                archive.write(path, str(path.relative_to(runs)))
    return packed.getvalue() if packed.tell() <= MAX_CHECKPOINT_BYTES else None


def unpack(checkpoint: bytes, runs: Path) -> None:
    """Write the files that `pack` returned."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        archive.extractall(runs)


def _write(rows: Sequence[LabelledRow], path: Path) -> str:
    lines = [json.dumps({INPUT: dict(row.input), LABEL: row.label}, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def _train(backbone: Backbone, job: Job, task: TaskFile, runs: Path, callbacks: Callbacks) -> Trained:
    plans = _plans(backbone, job, task, runs)
    curve = _Curve([plan.name for plan in plans], callbacks)
    train_runs(backbone, plans, on_event=curve.watch, on_checkpoint=callbacks.on_checkpoint)
    best = candidates([read_run_result(plan.folder) for plan in plans])[0].best
    # a learned readout with a prompt is fitted to the rows before the first step
    if best.best_step == 0 and (best.readout == "words" or best.method == "head"):
        raise JobFailed("no training step improved on the untrained model; try more rows or epochs, or another rate")
    if best.is_collapsed:
        raise JobFailed("the trained version predicts the same label for every row; try more rows or epochs")
    return Trained(adapter_files(best.folder), best)


def _plans(backbone: Backbone, job: Job, task: TaskFile, runs: Path) -> list[RunPlan]:
    explicit = {name: value for name, value in job.arguments.items() if name != "lr"}
    rates = [float(job.arguments["lr"])] if "lr" in job.arguments else []
    variants = [(arguments, None) for arguments in recipes(explicit, rates=rates, tasks=[task.spec])]
    is_begun = runs.is_dir()
    _, plans = plan_runs([task], variants, runs, split="honest", limit=None, precision="fp32", resume=is_begun)
    precision = begun_precision([plan.folder for plan in plans]) if is_begun else None
    if precision is None:
        methods = {arguments.method for arguments, _ in variants}
        precision, _ = automatic_precision([str(backbone.device)], methods, preset=None)
    return [replace(plan, precision=precision) for plan in plans]


class _Curve:
    """The learning curves of a job's runs, and where they are."""

    def __init__(self, names: Sequence[str], callbacks: Callbacks) -> None:
        self._names, self._callbacks = names, callbacks
        self._points: list[list[CurvePoint]] = [[] for _ in names]

    def watch(self, number: int, event: Event) -> None:
        """Take an event of a run."""
        match event:
            case StepEvent():
                self._callbacks.on_progress(Progress("training", event.step, event.num_steps))
            case EvalEvent():
                self._add(number, [*self._points[number], self._point(number, event)])
            case RestoreEvent():
                self._add(number, [self._point(number, each) for each in event.evaluations])
            case ScoreEvent():
                self._callbacks.on_progress(Progress("scoring"))
            case _:
                pass

    def _add(self, number: int, points: list[CurvePoint]) -> None:
        self._points[number] = points
        self._callbacks.on_curve([point for run in self._points for point in run])

    def _point(self, number: int, event: EvalEvent) -> CurvePoint:
        return CurvePoint(
            run=self._names[number],
            epoch=event.epoch,
            step=event.step,
            score=round(event.metrics.score, 6),
            loss=round(event.metrics.loss, 6),
            train_loss=None if event.train_loss is None else round(event.train_loss, 6),
            best=event.is_best,
            elapsed_s=round(event.elapsed_s, 3),
        )
