"""Training of a sweep's stacks on Ray workers; each worker holds the backbone and trains whole stacks.

A worker trains in a separate thread and stops at each evaluation to ask whether to prune the trial. A call into the
actor answers the last question and returns the next one, a checkpoint, or the results. The driver keeps the last
checkpoint of each stack, from which another worker continues if this one dies.
"""

import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from adapters.atomic_files import atomic_write
from backbone import Backbone
from training.errors import InvalidArguments
from training.loop.checkpoint import generations
from training.loop.events import EvalEvent, TrainResult
from training.ray_cluster import num_places
from training.scoring.metrics import Metrics
from training.sweeping.stacks import SweepTask, train_trials
from training.sweeping.study import MAX_ATTEMPTS, Trial
from training.sweeping.sweep import Sweep


@dataclass(frozen=True, slots=True)
class StackRequest:
    """A worker's question whether to prune a trial."""

    number: int
    event: EvalEvent
    best: Metrics


@dataclass(frozen=True, slots=True)
class TrainedTrial:
    """The result of a trial that a worker trained."""

    number: int
    result: TrainResult
    files: dict[str, bytes]
    """The files of its run folder."""


Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class StackCheckpoint:
    """A generation of checkpoints, without trials that have not changed since the last one."""

    folders: dict[int, Files]
    """The files of each run folder, by the trial's number."""


Answer = StackRequest | StackCheckpoint | list[TrainedTrial]
Reply = Answer | BaseException


class StackWorker:
    """Trains one stack at a time; a Ray actor, though it does not use Ray itself."""

    def __init__(self, load: Callable[[], Backbone], fingerprint: str) -> None:
        """Prepare a worker; the backbone is loaded later, because Ray reports an error here as a dead process.

        Args:
            load: loads the backbone
            fingerprint: the expected fingerprint of the backbone
        """
        self._load, self._fingerprint = load, fingerprint
        self._backbone: Backbone | None = None
        self._replies: queue.Queue[Reply] = queue.Queue(maxsize=1)
        self._answers: queue.Queue[bool] = queue.Queue(maxsize=1)

    def begin(
        self, sweep_task: SweepTask, trials: Sequence[Trial], folders: Mapping[int, Files] | None = None
    ) -> Answer:
        """Train a stack up to its first question, its first checkpoint or its end.

        Args:
            sweep_task: the task and its rows
            trials: of the stack
            folders: the last checkpoint of each trial, from another worker

        Raises:
            InvalidArguments: the backbone is not the driver's
        """
        if self._backbone is None:
            self._backbone = self._load()
            found = self._backbone.identity.fingerprint
            if found != self._fingerprint:
                raise InvalidArguments(f"a worker's backbone has the fingerprint {found}, expected {self._fingerprint}")
        arguments = (self._backbone, sweep_task, trials, folders or {})
        threading.Thread(target=self._train, args=arguments, daemon=True).start()
        return self.proceed()

    def answer(self, should_prune: bool) -> Answer:
        """Answer the question and train up to the next question, checkpoint or the end."""
        self._answers.put(should_prune)
        return self.proceed()

    def proceed(self) -> Answer:
        """Train up to the next question, checkpoint or the end."""
        reply = self._replies.get()
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _train(
        self, backbone: Backbone, sweep_task: SweepTask, trials: Sequence[Trial], folders: Mapping[int, Files]
    ) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="superpos-sweep-") as folder:
                paths = {trial.number: Path(folder) / str(trial.number) for trial in trials}
                for number, files in folders.items():
                    _write(paths[number], files)
                results = train_trials(
                    backbone,
                    sweep_task,
                    trials,
                    list(paths.values()),
                    should_prune=self._ask,
                    on_checkpoint=_Shipping(paths, self._replies.put),
                )
                trained = [
                    TrainedTrial(trial.number, result, _files(paths[trial.number]))
                    for trial, result in zip(trials, results, strict=True)
                ]
            self._replies.put(trained)
        except BaseException as exc:  # noqa: BLE001 - raised again in the driver
            self._replies.put(exc)

    def _ask(self, number: int, event: EvalEvent, best: Metrics) -> bool:
        self._replies.put(StackRequest(number, event, best))
        return self._answers.get()


class _Shipping:
    """Sends the run folders that have a new checkpoint."""

    def __init__(self, paths: Mapping[int, Path], send: Callable[[StackCheckpoint], None]) -> None:
        self._paths, self._send = paths, send
        self._sent: dict[int, set[int]] = {}
        """The generation of each trial that the driver has."""

    def __call__(self) -> None:
        found = {number: set(generations(path)) for number, path in self._paths.items()}
        changed = [number for number, steps in found.items() if steps != self._sent.get(number)]
        self._sent = found
        self._send(StackCheckpoint({number: _files(self._paths[number]) for number in changed}))


def sweep_on_ray(
    sweep: Sweep, load: Callable[[], Backbone], fingerprint: str, *, threads: int = 1, gpus: int = 0
) -> None:
    """Assign stacks to free workers until no trial is left; a fast worker takes more of them.

    A worker that dies is replaced, and its stack continues from the last checkpoint.

    Args:
        load: loads the backbone on a worker
        fingerprint: of this process's backbone
        threads: CPU cores per worker
        gpus: GPUs per worker

    Raises:
        InvalidArguments: the cluster is too small for a worker, or a worker's backbone differs
        SweepFailed: the workers of a trial died too often
    """
    with tempfile.TemporaryDirectory(prefix="superpos-sweep-") as folder:
        workers = _Workers(sweep, load, fingerprint, threads=threads, gpus=gpus, folder=Path(folder))
        try:
            while workers.assign():
                workers.handle_next()
        finally:
            workers.end()


@dataclass(slots=True)
class _Stack:
    """Trials that train together, and what a worker needs to continue them."""

    trials: list[Trial]
    checkpoint: Path
    """Folder of their last checkpoint, which has one folder per trial."""
    deaths: int = 0
    """Workers that died since that checkpoint."""

    def keep(self, folders: Mapping[int, Files]) -> None:
        """Keep a checkpoint in the place of the last one."""
        self.deaths = 0
        for number, files in folders.items():
            shutil.rmtree(self.checkpoint / str(number), ignore_errors=True)
            _write(self.checkpoint / str(number), files)

    def kept(self) -> dict[int, Files]:
        """Return the last checkpoint; empty if there is none."""
        return {int(path.name): _files(path) for path in self.checkpoint.glob("*")}


class _Workers:
    """The workers: the free ones, and the stacks of the others."""

    def __init__(
        self,
        sweep: Sweep,
        load: Callable[[], Backbone],
        fingerprint: str,
        *,
        threads: int,
        gpus: int,
        folder: Path,
    ) -> None:
        self._size = num_places(threads=threads, gpus=gpus)
        actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus)(StackWorker)
        self._start = partial(actor.remote, load, fingerprint)
        self._sweep, self._task, self._folder = sweep, ray.put(sweep.task), folder
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, _Stack]] = {}
        """The worker and its stack by the pending call."""
        self._orphans: list[_Stack] = []
        """Stacks whose worker died after a checkpoint."""

    def assign(self) -> bool:
        """Start a stack on every free worker; returns False if no worker is busy."""
        while len(self._busy) < self._size and (stack := self._next_stack()):
            worker = self._free.pop() if self._free else self._start()
            self._busy[worker.begin.remote(self._task, stack.trials, stack.kept())] = (worker, stack)
        return bool(self._busy)

    def handle_next(self) -> None:
        """Handle the next worker that asks a question, has a checkpoint, finishes its stack or dies."""
        (call, *_), _ = ray.wait(list(self._busy))
        worker, stack = self._busy.pop(call)
        try:
            reply = ray.get(call)
        except ray.exceptions.RayActorError as exc:
            # the last line of the error says why, for example that a worker lacks our packages
            self._bury(stack, str(exc).strip().splitlines()[-1])
            return
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause from exc
        match reply:
            case StackRequest():
                should_prune = self._sweep.should_prune(reply.number, reply.event, reply.best)
                self._busy[worker.answer.remote(should_prune)] = (worker, stack)
            case StackCheckpoint():
                stack.keep(reply.folders)
                self._busy[worker.proceed.remote()] = (worker, stack)
            case _:
                self._finish(stack, reply)
                self._free.append(worker)

    def end(self) -> None:
        """End every worker."""
        for worker in [*self._free, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)

    def _next_stack(self) -> _Stack | None:
        if self._orphans:
            return self._orphans.pop()
        trials = self._sweep.next_stack()
        return _Stack(trials, self._folder / str(trials[0].number)) if trials else None

    def _bury(self, stack: _Stack, reason: str) -> None:
        """Continue the stack of a dead worker from its last checkpoint, or repeat its trials."""
        stack.deaths += 1
        if stack.checkpoint.is_dir() and stack.deaths < MAX_ATTEMPTS:
            self._orphans.append(stack)
        else:
            self._sweep.lose([trial.number for trial in stack.trials], reason)

    def _finish(self, stack: _Stack, results: Sequence[TrainedTrial]) -> None:
        for trained in results:
            _write(self._sweep.folder.trial(trained.number), trained.files)
            self._sweep.keep(trained.number, trained.result)
        shutil.rmtree(stack.checkpoint, ignore_errors=True)


def _write(run: Path, files: Files) -> None:
    run.mkdir(parents=True, exist_ok=True)
    atomic_write({run / name: content for name, content in files.items()})


def _files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}
