"""Training of a sweep's stacks on Ray: each worker holds the backbone and trains whole stacks.

A worker trains in a separate thread and waits at each evaluation for the decision whether to prune the trial: a call to
the actor answers the last question and returns the next one, or the results.
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
    """Result of a trial on a worker."""

    number: int
    result: TrainResult
    files: dict[str, bytes]
    """Files of its run folder."""


Said = StackRequest | list[TrainedTrial] | BaseException


class StackWorker:
    """One backbone, one stack at a time. An actor of Ray's, though nothing in it knows of Ray."""

    def __init__(self, load: Callable[[], Backbone], fingerprint: str) -> None:
        """Load nothing yet: what an actor's constructor raises looks to its driver like a dead process.

        Args:
            load: gives the backbone
            fingerprint: what it has to be
        """
        self._load, self._fingerprint = load, fingerprint
        self._backbone: Backbone | None = None
        self._said: queue.Queue[Said] = queue.Queue(maxsize=1)
        self._answers: queue.Queue[bool] = queue.Queue(maxsize=1)

    def begin(self, sweep_task: SweepTask, trials: Sequence[Trial]) -> StackRequest | list[TrainedTrial]:
        """Train a stack up to its first question, or its end.

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
        """Answer the question and train up to the next one, or the end."""
        self._answers.put(should_prune)
        return self._next()

    def _next(self) -> StackRequest | list[TrainedTrial]:
        said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return said

    def _train(self, backbone: Backbone, sweep_task: SweepTask, trials: Sequence[Trial]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="superpos-sweep-") as folder:
                paths = [Path(folder) / str(trial.number) for trial in trials]
                results = train_trials(backbone, sweep_task, trials, paths, should_prune=self._ask)
                trained = [
                    TrainedTrial(trial.number, result, {file.name: file.read_bytes() for file in path.iterdir()})
                    for trial, result, path in zip(trials, results, paths, strict=True)
                ]
            self._said.put(trained)
        except BaseException as exc:  # noqa: BLE001 - it is raised where the driver waits
            self._said.put(exc)

    def _ask(self, number: int, event: EvalEvent, best: Metrics) -> bool:
        self._said.put(StackRequest(number, event, best))
        return self._answers.get()


@contextmanager
def cluster(address: str, *, num_cpus: int | None = None) -> Iterator[None]:
    """Join a Ray cluster and leave it again, our actors ended.

    Args:
        address: a running cluster's, or `local` for one on this machine that ends with us
        num_cpus: of a local one; left out, every core

    Raises:
        InvalidArguments: nothing answers at the address
    """
    # disable Ray's usage statistics and dashboard
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
    """Hand stacks to free workers until nothing is left to try; one that dies is replaced.

    Args:
        load: gives a worker its backbone; it runs there
        fingerprint: that backbone's, as this process has it
        threads: CPU cores that a worker is lent
        gpus: GPUs that a worker is lent

    Raises:
        InvalidArguments: the cluster has no place for a worker, or its backbone is another one
        SweepFailed: trials whose workers die again and again
    """
    crew = _Crew(sweep, load, fingerprint, threads=threads, gpus=gpus)
    try:
        while crew.hand_out():
            crew.hear()
    finally:
        crew.end()


class _Crew:
    """The workers: which are free, and what the others train."""

    def __init__(
        self, sweep: Sweep, load: Callable[[], Backbone], fingerprint: str, *, threads: int, gpus: int
    ) -> None:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = [resources.get("CPU", 0) // threads] + ([resources.get("GPU", 0) // gpus] if gpus else [])
        self._size = int(min(places))
        if self._size < 1:
            raise InvalidArguments(f"the Ray cluster has no place for a worker of {threads} CPUs and {gpus} GPUs")
        actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus)(StackWorker)
        self._start = partial(actor.remote, load, fingerprint)
        self._sweep, self._task = sweep, ray.put(sweep.task)
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, list[Trial]]] = {}
        """By the call that a worker is in: the worker and its stack."""

    def hand_out(self) -> bool:
        """Give every free place a stack, while there are any; False at the end."""
        while len(self._busy) < self._size and (stack := self._sweep.next_stack()):
            worker = self._free.pop() if self._free else self._start()
            self._busy[worker.begin.remote(self._task, stack)] = (worker, stack)
        return bool(self._busy)

    def hear(self) -> None:
        """Wait for a worker: it asks a question, it has ended its stack, or it is dead."""
        (call, *_), _ = ray.wait(list(self._busy))
        worker, stack = self._busy.pop(call)
        try:
            said = ray.get(call)
        except ray.exceptions.RayActorError as exc:
            # a worker without our packages dies at its start: its error's last line says so
            self._sweep.lose([trial.number for trial in stack], str(exc).strip().splitlines()[-1])
            return
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause from exc
        if isinstance(said, StackRequest):
            should_prune = self._sweep.should_prune(said.number, said.event, said.best)
            self._busy[worker.answer.remote(should_prune)] = (worker, stack)
            return
        for trained in said:
            _write(self._sweep.folder.trial(trained.number), trained.files)
            self._sweep.keep(trained.number, trained.result)
        self._free.append(worker)

    def end(self) -> None:
        """End every worker, whatever it does."""
        for worker in [*self._free, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)


def _write(run: Path, files: dict[str, bytes]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    atomic_write({run / name: content for name, content in files.items()})
