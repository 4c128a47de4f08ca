"""Trains a sweep's stacks on Ray's workers: each holds the backbone and trains whole stacks, handed to whoever is free.

A worker trains in a thread of its own and stops at each evaluation to ask whether the trial is hopeless: a call into
the actor answers the last question and comes back with the next one, or with the results.
"""

import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from backbone import Backbone
from training.errors import InvalidArguments
from training.events import EvalEvent, TrainResult
from training.run_folder import RunFolder
from training.sweeping.stacks import Subject, train_trials
from training.sweeping.study import Trial
from training.sweeping.sweep import Sweep

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Question:
    """A worker asks: is this trial hopeless?"""

    number: int
    event: EvalEvent


@dataclass(frozen=True, slots=True)
class TrainedTrial:
    """What a trial came to on a worker."""

    number: int
    result: TrainResult
    files: dict[str, bytes]
    """Of its run folder."""


Said = Question | list[TrainedTrial] | BaseException


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

    def begin(self, subject: Subject, trials: Sequence[Trial]) -> Question | list[TrainedTrial]:
        """Train a stack up to its first question, or its end.

        Raises:
            InvalidArguments: the backbone is not the driver's
        """
        if self._backbone is None:
            self._backbone = self._load()
            found = self._backbone.identity.fingerprint
            if found != self._fingerprint:
                raise InvalidArguments(f"a worker's backbone has the fingerprint {found}, expected {self._fingerprint}")
        threading.Thread(target=self._train, args=(self._backbone, subject, trials), daemon=True).start()
        return self._next()

    def answer(self, is_hopeless: bool) -> Question | list[TrainedTrial]:
        """Answer the question and train up to the next one, or the end."""
        self._answers.put(is_hopeless)
        return self._next()

    def _next(self) -> Question | list[TrainedTrial]:
        said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return said

    def _train(self, backbone: Backbone, subject: Subject, trials: Sequence[Trial]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="superpos-sweep-") as folder:
                paths = [Path(folder) / str(trial.number) for trial in trials]
                folders = [RunFolder(path) for path in paths]
                results = train_trials(backbone, subject, trials, folders, is_hopeless=self._ask)
                trained = [
                    TrainedTrial(trial.number, result, {file.name: file.read_bytes() for file in path.iterdir()})
                    for trial, result, path in zip(trials, results, paths, strict=True)
                ]
            self._said.put(trained)
        except BaseException as exc:  # noqa: BLE001 - it is raised where the driver waits
            self._said.put(exc)

    def _ask(self, number: int, event: EvalEvent) -> bool:
        self._said.put(Question(number, event))
        return self._answers.get()


class RayCrew:
    """Actors on a Ray cluster. Ours to start and to end; the cluster is not, unless it is the local one."""

    def __init__(
        self, address: str, load: Callable[[], Backbone], fingerprint: str, *, threads: int, gpus: int
    ) -> None:
        """Join a cluster.

        Args:
            address: `local` for one of this machine's cores that ends with us, or a running cluster's
            load: gives a worker its backbone; it runs there
            fingerprint: the backbone's that this process has
            threads: CPU cores that a worker is lent
            gpus: GPUs that a worker is lent

        Raises:
            InvalidArguments: nothing answers at the address
        """
        # Ray would tell its makers of this use, and start a web server
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                address=address, include_dashboard=False if address == LOCAL else None, logging_level=logging.ERROR
            )
        except (ConnectionError, ValueError) as exc:
            raise InvalidArguments(f"no Ray cluster at {address!r}: {str(exc).splitlines()[0]}") from exc
        self._worker: Any = ray.remote(num_cpus=threads, num_gpus=gpus)(StackWorker)
        self._load, self._fingerprint = load, fingerprint
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = [resources.get("CPU", 0) // threads] + ([resources.get("GPU", 0) // gpus] if gpus else [])
        self.size = int(min(places))
        """Workers that the cluster has place for."""
        if self.size < 1:
            self.close()
            raise InvalidArguments(f"the Ray cluster has no place for a worker of {threads} CPUs and {gpus} GPUs")

    def close(self) -> None:
        """End our actors, and a local cluster."""
        ray.shutdown()

    def sweep(self, sweep: Sweep) -> None:
        """Hand stacks to free workers until nothing is left to try; one that dies is replaced.

        Raises:
            SweepFailed: trials whose workers die again and again
            InvalidArguments: a worker's backbone is another one
        """
        subject = ray.put(sweep.subject)
        free = [self._start() for _ in range(self.size)]
        pending: dict[Any, tuple[Any, list[Trial]]] = {}
        while True:
            while free and (stack := sweep.next_stack()):
                worker = free.pop()
                pending[worker.begin.remote(subject, stack)] = (worker, stack)
            if not pending:
                return
            (ready, *_), _ = ray.wait(list(pending))
            worker, stack = pending.pop(ready)
            try:
                said = ray.get(ready)
            except ray.exceptions.RayActorError:
                sweep.lose([trial.number for trial in stack])
                free.append(self._start())
                continue
            except ray.exceptions.RayTaskError as exc:
                raise exc.cause from exc
            if isinstance(said, Question):
                pending[worker.answer.remote(sweep.is_hopeless(said.number, said.event))] = (worker, stack)
                continue
            for trained in said:
                _write(sweep.folder.trial(trained.number), trained.files)
                sweep.keep(trained.number, trained.result)
            free.append(worker)

    def _start(self) -> Any:
        return self._worker.remote(self._load, self._fingerprint)


def _write(run: Path, files: dict[str, bytes]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (run / name).write_bytes(content)
