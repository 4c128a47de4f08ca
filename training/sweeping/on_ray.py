"""Training of a sweep's stacks on Ray workers; each worker holds the backbone and trains whole stacks.

A worker trains in a separate thread and stops at each evaluation to ask whether to prune the trial. A call into the
actor answers the last question and returns the next one, or the results.
"""

import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from adapters.atomic_files import atomic_write
from backbone import Backbone
from training.errors import InvalidArguments
from training.loop.events import EvalEvent, TrainResult
from training.scoring.metrics import Metrics
from training.sweeping.stacks import SweepTask, train_trials
from training.sweeping.study import Trial
from training.sweeping.sweep import Sweep

LOCAL = "local"


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


Reply = StackRequest | list[TrainedTrial] | BaseException


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

    def begin(self, sweep_task: SweepTask, trials: Sequence[Trial]) -> StackRequest | list[TrainedTrial]:
        """Train a stack up to its first question or its end.

        Raises:
            InvalidArguments: the backbone is not the driver's
        """
        if self._backbone is None:
            self._backbone = self._load()
            found = self._backbone.identity.fingerprint
            if found != self._fingerprint:
                raise InvalidArguments(f"a worker's backbone has the fingerprint {found}, expected {self._fingerprint}")
        threading.Thread(target=self._train, args=(self._backbone, sweep_task, trials), daemon=True).start()
        return self._next()

    def answer(self, should_prune: bool) -> StackRequest | list[TrainedTrial]:
        """Answer the question and train up to the next one or the end."""
        self._answers.put(should_prune)
        return self._next()

    def _next(self) -> StackRequest | list[TrainedTrial]:
        reply = self._replies.get()
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _train(self, backbone: Backbone, sweep_task: SweepTask, trials: Sequence[Trial]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="superpos-sweep-") as folder:
                paths = [Path(folder) / str(trial.number) for trial in trials]
                results = train_trials(backbone, sweep_task, trials, paths, should_prune=self._ask)
                trained = [
                    TrainedTrial(trial.number, result, {file.name: file.read_bytes() for file in path.iterdir()})
                    for trial, result, path in zip(trials, results, paths, strict=True)
                ]
            self._replies.put(trained)
        except BaseException as exc:  # noqa: BLE001 - raised again in the driver
            self._replies.put(exc)

    def _ask(self, number: int, event: EvalEvent, best: Metrics) -> bool:
        self._replies.put(StackRequest(number, event, best))
        return self._answers.get()


@contextmanager
def cluster(address: str, *, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster, and end our actors when leaving it.

    Args:
        address: of a running cluster, or `local` for a temporary one on this machine
        num_cpus: CPUs of a local cluster; None for all

    Raises:
        InvalidArguments: no cluster answers at the address
    """
    # no usage statistics, and no dashboard on a local cluster
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    page = False if address == LOCAL else None
    try:
        ray.init(
            address, num_cpus=num_cpus, include_dashboard=page, log_to_driver=False, logging_level=logging.CRITICAL
        )
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise InvalidArguments(f"no Ray cluster at {address!r}: {str(exc).splitlines()[0]}") from exc
    try:
        yield
    finally:
        ray.shutdown()


def sweep_on_ray(
    sweep: Sweep, load: Callable[[], Backbone], fingerprint: str, *, threads: int = 1, gpus: int = 0
) -> None:
    """Assign stacks to free workers until no trial is left; a worker that dies is replaced.

    Args:
        load: loads the backbone on a worker
        fingerprint: of this process's backbone
        threads: CPU cores per worker
        gpus: GPUs per worker

    Raises:
        InvalidArguments: the cluster is too small for a worker, or a worker's backbone differs
        SweepFailed: the workers of a trial died too often
    """
    workers = _Workers(sweep, load, fingerprint, threads=threads, gpus=gpus)
    try:
        while workers.assign():
            workers.handle_next()
    finally:
        workers.end()


class _Workers:
    """The workers: the free ones, and the stacks of the others."""

    def __init__(
        self, sweep: Sweep, load: Callable[[], Backbone], fingerprint: str, *, threads: int, gpus: int
    ) -> None:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = [resources.get("CPU", 0) // threads] + ([resources.get("GPU", 0) // gpus] if gpus else [])
        self._size = int(min(places))
        if self._size < 1:
            raise InvalidArguments(f"the Ray cluster is too small for a worker with {threads} CPUs and {gpus} GPUs")
        actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus)(StackWorker)
        self._start = partial(actor.remote, load, fingerprint)
        self._sweep, self._task = sweep, ray.put(sweep.task)
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, list[Trial]]] = {}
        """The worker and its stack by the pending call."""

    def assign(self) -> bool:
        """Start a stack on every free worker; returns False if no worker is busy."""
        while len(self._busy) < self._size and (stack := self._sweep.next_stack()):
            worker = self._free.pop() if self._free else self._start()
            self._busy[worker.begin.remote(self._task, stack)] = (worker, stack)
        return bool(self._busy)

    def handle_next(self) -> None:
        """Handle the next worker that asks a question, finishes its stack or dies."""
        (call, *_), _ = ray.wait(list(self._busy))
        worker, stack = self._busy.pop(call)
        try:
            reply = ray.get(call)
        except ray.exceptions.RayActorError as exc:
            # the last line of the error says why, for example that a worker lacks our packages
            self._sweep.lose([trial.number for trial in stack], str(exc).strip().splitlines()[-1])
            return
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause from exc
        if isinstance(reply, StackRequest):
            should_prune = self._sweep.should_prune(reply.number, reply.event, reply.best)
            self._busy[worker.answer.remote(should_prune)] = (worker, stack)
            return
        for trained in reply:
            _write(self._sweep.folder.trial(trained.number), trained.files)
            self._sweep.keep(trained.number, trained.result)
        self._free.append(worker)

    def end(self) -> None:
        """End every worker."""
        for worker in [*self._free, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)


def _write(run: Path, files: dict[str, bytes]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    atomic_write({run / name: content for name, content in files.items()})
