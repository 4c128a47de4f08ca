"""Plans dealt to several processes, each with the backbone and a stack of its own; no gradient is ever exchanged.

A process tells of its runs over a pipe, and writes them into their folders. One that dies takes nothing with it but
the steps since its last checkpoints. Ctrl-C reaches the parent alone, which asks the others to end.
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
from training.runs.plan import EndEvent, Event, RunPlan, ScoreEvent, Watch, train_plans


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSource:
    """What `backbone.load` is asked for, in each process."""

    source: str
    cache_dir: Path
    revision: str | None
    offline: bool

    def load(self, device: str) -> Backbone:
        """Load it; on a CPU the processes share its pages."""
        return load(
            self.source,
            cache_dir=self.cache_dir,
            revision=self.revision,
            offline=self.offline,
            device=device,
            share_weights=device == "cpu",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAssignment:
    """What one process is to do."""

    backbone: BackboneSource
    device: str
    threads: int
    numbers: tuple[int, ...]
    """The places of its plans among all."""
    plans: tuple[RunPlan, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A process that did not come to its end."""

    share: WorkerAssignment
    reason: str


Workers = dict[Connection, tuple[WorkerAssignment, BaseProcess]]


def assign(
    plans: Sequence[RunPlan], backbone: BackboneSource, *, devices: Sequence[str], processes: int, threads: int
) -> list[WorkerAssignment]:
    """Deal plans to processes in turn, and processes to devices.

    Args:
        threads: CPU threads of all processes together; each has one at least
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


def train_shares(shares: Sequence[WorkerAssignment], *, watch: Watch) -> list[Failure]:
    """Train each share in a process of its own, and wait for all. Those that failed come back.

    An interrupt (Ctrl-C) ends each after its step, its best kept; a second one kills them. For the main thread alone.
    """
    context = multiprocessing.get_context("spawn")
    workers: Workers = {}
    # the processes inherit that they hear no interrupt: it is for the parent to ask them
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for number, share in enumerate(shares, start=1):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_work, args=(share, theirs), name=f"superpos-train-{number}", daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = (share, process)
        signal.signal(signal.SIGINT, _asking_to_end(workers))
        return _follow(workers, watch)
    finally:
        signal.signal(signal.SIGINT, before)
        for _, process in workers.values():
            process.kill()


def _asking_to_end(workers: Workers) -> Callable[[int, FrameType | None], None]:
    """What an interrupt does; it raises nothing, so that no message is left half read."""
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        for pipe, (_, process) in workers.items():
            if asked:
                process.kill()
            elif not pipe.closed:
                _ask_to_end(pipe)
        asked = True

    return ask


def _ask_to_end(pipe: Connection) -> None:
    try:
        pipe.send(None)
    except OSError:
        return  # it has ended already


def _follow(workers: Workers, watch: Watch) -> list[Failure]:
    """Pass on what the processes tell until the last has ended."""
    failures = []
    while open_pipes := [pipe for pipe in workers if not pipe.closed]:
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection)
            share, process = workers[pipe]
            try:
                told: tuple[int, Event] | str = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                pipe.close()
                if process.exitcode:
                    failures.append(Failure(share, f"its process ended with exit code {process.exitcode}"))
                continue
            if isinstance(told, str):
                failures.append(Failure(share, told))
            else:
                watch(*told)
    return failures


def _work(share: WorkerAssignment, pipe: Connection) -> None:
    """A process: load, train, tell."""

    def tell(number: int, event: Event) -> None:
        # an interrupt ends training; what that came to is still to be scored
        if not isinstance(event, EndEvent | ScoreEvent) and pipe.poll():
            pipe.recv()  # an EOFError where the parent is gone
            raise KeyboardInterrupt
        pipe.send((share.numbers[number], event))

    torch.set_num_threads(share.threads)
    try:
        train_plans(share.backbone.load(share.device), share.plans, watch=tell)
    except (TrainingError, AdapterError, BackboneError) as exc:
        pipe.send(str(exc))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return  # nothing to keep yet, or nobody to tell
    except OSError as exc:
        pipe.send(describe_oserror(exc))
