"""A job that workers of a Ray cluster score: parts travel as values, so that nothing else is shared between machines.

Ray Data streams the parts: tasks on this machine read them, actors with an engine each answer them, and this process
saves what arrives, in any order. Ray repeats the parts of a worker that dies; a part that is saved is never repeated.
"""

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import ray
import ray.data

from scoring.encoding import EncodedPart, PartEncoder
from scoring.errors import ScoringError
from scoring.files.part import InputFile, InputRow, Part
from scoring.job import Estimate, Job, Watcher
from scoring.scorer import Scorer
from scoring.streaming import trial_rate, trial_rows, unsaved_rows
from scoring.tasks import AnswerOptions
from scoring.worker import CONCURRENCY, PortableTasks, WorkerEngine
from training.ray_cluster import num_places

_READERS = 4
"""Files that are read at the same time."""
_PARTS_IN_FLIGHT = 2
"""Parts that a worker has: one that it answers, and one that waits, so that it is never idle."""
_FIELDS: "list[pyarrow.Field[Any]]" = [
    pyarrow.field("name", pyarrow.string()),
    pyarrow.field("value", pyarrow.large_binary()),
    pyarrow.field("error", pyarrow.string()),
]
_SCHEMA = pyarrow.schema(_FIELDS)
"""Rows between the stages: an output's name, and a pickled value or the error instead of it."""


class WorkerFailed(ScoringError):
    """A worker cannot answer; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Workers of a job."""

    settings: Mapping[str, object]
    """Settings of the engine in each of them, such as `backbone` and `precision`."""
    threads: int = 1
    """CPU cores of each."""
    gpus: int = 0
    """GPUs of each."""
    number: int | None = None
    """As many as the cluster has room for if None."""


class PartScorer:
    """Answers parts of files on a worker; a Ray actor, though it does not use Ray itself."""

    def __init__(self, packed: bytes) -> None:
        """Prepare a worker. The engine is started later, because Ray reports an error here as a dead process.

        Args:
            packed: tasks, options and settings, pickled: Ray Data compares arguments by their hashes
        """
        self._tasks: PortableTasks
        self._options: AnswerOptions
        self._settings: Mapping[str, object]
        self._tasks, self._options, self._settings = pickle.loads(packed)
        self._encoder = PartEncoder.of(self._tasks.tasks, self._options)
        self._scorer: Scorer | None = None

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Answer the parts of a batch, and encode them."""
        return _table(self._answered(row["name"], row["value"]) for row in batch.to_pylist())

    def rate(self, rows: Sequence[InputRow]) -> float | None:
        """Return the rows/s of a trial."""
        return trial_rate(self._loaded().answers(rows))

    def _answered(self, name: str, value: bytes) -> tuple[str, bytes | None, str | None]:
        try:
            file, part = pickle.loads(value)
            answered = list(self._loaded().answers(part.rows))
            return name, pickle.dumps(self._encoder.encode(file, part, answered)), None
        except Exception as exc:  # noqa: BLE001 - raised again in the driver
            return name, None, _described(exc)

    def _loaded(self) -> Scorer:
        if self._scorer is None:
            engine = WorkerEngine(self._tasks, self._settings)
            self._scorer = Scorer(
                client=engine.client, tasks=engine.tasks, options=self._options, concurrency=CONCURRENCY
            )
            self._engine = engine  # its folder lives as long as it does
        return self._scorer


class RayRun:
    """Scores what is left of a job on the cluster that this process is connected to."""

    def __init__(self, job: Job, tasks: PortableTasks, workers: Workers) -> None:
        """Take a job, its tasks and their workers.

        Raises:
            InvalidArguments: the cluster is too small for a worker
        """
        places = num_places(threads=workers.threads, gpus=workers.gpus)
        self._job, self._workers = job, workers
        self._number = workers.number or places
        settings = {**workers.settings, "threads": workers.threads}
        self._packed = pickle.dumps((tasks, job.options, settings))

    def estimate(self, *, trial: bool) -> Estimate:
        """Count the rows that are left.

        Args:
            trial: also score some of them on a worker for two seconds, without saving them
        """
        num_rows = self._job.num_left()
        rate = self._trial_rate(num_rows) if trial and num_rows else None
        return Estimate(
            len(self._job.left),
            num_rows,
            None if rate is None else rate * self._number,
            num_workers=self._number,
            devices=self._workers.gpus or self._workers.threads,
            device="GPU" if self._workers.gpus else "core",
        )

    def run(self, watcher: Watcher) -> None:
        """Score and save what is left.

        Args:
            watcher: of the progress, part by part

        Raises:
            WorkerFailed: a worker cannot answer; the same job resumes
        """
        job = self._job
        left: dict[str, int] = {}
        for name in job.left:
            file = job.output_file(name)
            left[name] = file.file.contents.num_rows - sum(file.saved.values())
            if not left[name]:
                job.finish(name, watcher)
        with _quiet_ray_data():
            for name, part in self._parts(list(job.left)):
                job.save(name, part)
                watcher.scored(part.num_rows)
                left[name] -= part.num_rows
                if not left[name]:
                    job.finish(name, watcher)

    def _parts(self, names: Sequence[str]) -> Iterator[tuple[str, EncodedPart]]:
        """Yield the scored parts of inputs as they arrive."""
        if not names:
            return
        columns = self._job.read_columns
        files = [(name, self._job.output_file(name)) for name in names]
        read: Any = ray.data.from_items(
            [
                {"name": name, "value": pickle.dumps((Path.cwd(), file.file, columns, set(file.saved)))}
                for name, file in files
            ]
        )
        here = ray.get_runtime_context().get_node_id()
        parts = read.map_batches(
            _read_parts,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(_READERS, len(files))),
            num_cpus=0,  # all cores are the workers'
            label_selector={"ray.io/node-id": here},  # where the files are
        )
        scored = parts.map_batches(
            PartScorer,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=self._number, max_tasks_in_flight_per_actor=_PARTS_IN_FLIGHT),
            fn_constructor_args=(self._packed,),
            num_cpus=self._workers.threads,
            num_gpus=self._workers.gpus or None,
        )
        for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                if row["error"] is not None:
                    raise WorkerFailed(f"a worker cannot score {row['name']}: {row['error']}")
                yield row["name"], pickle.loads(row["value"])

    def _trial_rate(self, num_rows: int) -> float | None:
        """Return the rows/s of one worker, which is started for it."""
        rows = list(trial_rows(unsaved_rows(self._job), num_rows))
        if not rows:
            return None
        workers = self._workers
        actor: Any = ray.remote(num_cpus=workers.threads, num_gpus=workers.gpus)(PartScorer)
        worker = actor.remote(self._packed)
        try:
            rate: float | None = ray.get(worker.rate.remote(rows))
        except ray.exceptions.RayTaskError as exc:
            raise WorkerFailed(f"a worker cannot score: {_described(exc.cause)}") from exc
        except ray.exceptions.RayActorError as exc:
            # the last line of the error says why, for example that a worker lacks our packages
            raise WorkerFailed(f"a worker ended: {str(exc).strip().splitlines()[-1]}") from exc
        finally:
            ray.kill(worker)
        return rate


def _read_parts(batch: pyarrow.Table) -> Iterator[pyarrow.Table]:
    """Yield the parts of files; a Ray task on the driver's machine."""
    for row in batch.to_pylist():
        try:
            file: InputFile[Any]
            folder, file, columns, saved = pickle.loads(row["value"])
            part: Part[Any]
            with chdir(folder):  # paths are kept as the user wrote them
                for part in file.parts(columns, skip=saved):
                    yield _table([(row["name"], pickle.dumps((file, part)), None)])
        except Exception as exc:  # noqa: BLE001 - raised again in the driver
            yield _table([(row["name"], None, _described(exc))])


def _table(rows: Any) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([dict(zip(_SCHEMA.names, row, strict=True)) for row in rows], schema=_SCHEMA)


def _described(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, ScoringError) and text else f"{type(error).__name__}: {text}"


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Make each part a block of its own, which is on its way at once, and let nothing but errors be printed."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = (context.target_max_block_size, context.enable_progress_bars, log.level)
    context.target_max_block_size, context.enable_progress_bars = 1, False
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.data")  # hints about small jobs
            yield
    finally:
        context.target_max_block_size, context.enable_progress_bars = before[:2]
        log.setLevel(before[2])
