"""Training of planned runs in this process, or in several that each have the backbone and a stack of their own.

No gradient is ever exchanged. A worker process reports the events of its runs over a pipe and writes the runs into
their folders; if it dies, only the steps since its last checkpoints are lost. Ctrl-C reaches the parent only, which
asks the workers to stop.
"""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import torch

from adapters.atomic_files import describe_oserror
from adapters.errors import AdapterError
from backbone import Backbone, BackboneError, load
from training.errors import TrainingError
from training.runs.executor import BaselineEvent, EndEvent, Event, OnEvent, ScoreEvent, train_runs
from training.runs.plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSource:
    """Arguments of `backbone.load`, for each process."""

    source: str
    cache_dir: Path
    revision: str | None
    offline: bool

    def load(
        self, device: str, *, share_weights: bool = False, say: Callable[[str], None] = lambda line: None
    ) -> Backbone:
        """Load the backbone; arguments as `backbone.load`."""
        return load(
            self.source,
            cache_dir=self.cache_dir,
            revision=self.revision,
            offline=self.offline,
            device=device,
            share_weights=share_weights,
            say=say,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAssignment:
    """The runs of one worker process."""

    backbone: BackboneSource
    device: str
    threads: int
    numbers: tuple[int, ...]
    """Indices of its plans among all."""
    plans: tuple[RunPlan, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A worker process that failed."""

    assignment: WorkerAssignment
    reason: str


Workers = dict[Connection, tuple[WorkerAssignment, BaseProcess]]


def launch(
    plans: Sequence[RunPlan],
    source: BackboneSource,
    *,
    devices: Sequence[str],
    processes: int,
    threads: int | None,
    loaded: Backbone | None = None,
    on_event: OnEvent,
    say: Callable[[str], None],
) -> list[str]:
    """Train in this process, or in several where more than one device or process is asked for.

    Args:
        threads: CPU threads of all processes together; None for PyTorch's default
        loaded: the backbone on the first device, which this process then need not load
        say: called with what loading the backbone is doing

    Returns:
        what failed in other processes; in this one, errors are raised as `train_runs` does
    """
    count = min(max(processes, len(devices)), len(plans))
    if count == 1:
        if threads is not None:
            torch.set_num_threads(threads)
        train_runs(loaded or source.load(devices[0], say=say), plans, on_event=on_event)
        return []
    assignments = assign(plans, source, devices=devices, processes=count, threads=threads or torch.get_num_threads())
    return [
        f"{', '.join(str(plan.folder) for plan in failure.assignment.plans)}: {failure.reason}"
        for failure in train_in_processes(assignments, on_event=on_event)
    ]


def assign(
    plans: Sequence[RunPlan], backbone: BackboneSource, *, devices: Sequence[str], processes: int, threads: int
) -> list[WorkerAssignment]:
    """Assign plans to processes and processes to devices, round-robin.

    Args:
        threads: CPU threads of all processes together; each process has at least one
    """
    count = min(processes, len(plans))
    return [
        WorkerAssignment(
            backbone=backbone,
            device=devices[number % len(devices)],
            threads=max(1, threads // count),
            numbers=tuple(range(number, len(plans), count)),
            plans=tuple(plans[number::count]),
        )
        for number in range(count)
    ]


def train_in_processes(assignments: Sequence[WorkerAssignment], *, on_event: OnEvent) -> list[Failure]:
    """Train each assignment in its own process, wait for all, and return those that failed.

    Ctrl-C ends each process after its current step and keeps the best result so far; a second one kills them. Must be
    called from the main thread.
    """
    context = multiprocessing.get_context("spawn")
    workers: Workers = {}
    # workers inherit the ignored signal: the parent asks them to stop
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for number, assignment in enumerate(assignments, start=1):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_work, args=(assignment, theirs), name=f"superpos-train-{number}", daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = (assignment, process)
        signal.signal(signal.SIGINT, _stop_requester(workers))
        return _follow(workers, on_event)
    finally:
        signal.signal(signal.SIGINT, before)
        for _, process in workers.values():
            process.kill()


def _stop_requester(workers: Workers) -> Callable[[int, FrameType | None], None]:
    """Make the handler of Ctrl-C. It raises nothing, so that no message is left half read."""
    asked = False

    def request(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        for pipe, (_, process) in workers.items():
            if asked:
                process.kill()
            elif not pipe.closed:
                request_stop(pipe)
        asked = True

    return request


def request_stop(pipe: Connection) -> None:
    """Ask a worker to stop after its current step."""
    try:
        pipe.send(None)
    except OSError:
        return  # the worker has already ended


def _follow(workers: Workers, on_event: OnEvent) -> list[Failure]:
    """Forward the workers' events until the last worker has ended."""
    failures = []
    while open_pipes := [pipe for pipe in workers if not pipe.closed]:
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection)
            assignment, process = workers[pipe]
            try:
                message: tuple[int, Event] | str = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                pipe.close()
                if process.exitcode:
                    failures.append(Failure(assignment, f"its process ended with exit code {process.exitcode}"))
                continue
            if isinstance(message, str):
                failures.append(Failure(assignment, message))
            else:
                on_event(*message)
    return failures


def _work(assignment: WorkerAssignment, pipe: Connection) -> None:
    """Run a worker process: load the backbone, train, report."""

    def report(number: int, event: Event) -> None:
        # a request to stop ends training, not the scoring of its result
        if not isinstance(event, EndEvent | ScoreEvent | BaselineEvent) and pipe.poll():
            pipe.recv()  # raises EOFError if the parent is gone
            raise KeyboardInterrupt
        pipe.send((assignment.numbers[number], event))

    torch.set_num_threads(assignment.threads)
    try:
        # on a CPU the processes share the pages of one copy of the weights
        backbone = assignment.backbone.load(assignment.device, share_weights=assignment.device == "cpu")
        train_runs(backbone, assignment.plans, on_event=report)
    except (TrainingError, AdapterError, BackboneError) as exc:
        pipe.send(str(exc))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return  # nothing to keep yet, or the parent is gone
    except OSError as exc:
        pipe.send(describe_oserror(exc))
