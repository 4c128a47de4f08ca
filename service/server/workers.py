"""Several server processes behind one port: the parent that starts, watches and ends them, and what each runs.

Processes, signals and draining are uvicorn's. Ours is when a death ends the server and when it is made good, and a
listening socket for each worker: of one socket that all share, the first to wake takes whole bursts of connections
(13 of 16 that stay open, 12 of 14); the kernel spreads connections over several by chance, evenly.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from cli.console import CommandError
from service.server.graceful import DrainingServer
from service.server.sockets import share
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_HUNG_S = 30
"""A worker whose process has not answered for so long is ended: nothing that Python runs holds it up for that."""
_RESTART_PAUSE_S = 5.0
"""Between two replacements, so that one which cannot start takes little from the workers that serve."""


def serve_with_workers(settings: Settings, holder: socket.socket, *, on_serving: Callable[[], None]) -> None:
    """Serve until a signal ends it, what was accepted answered first.

    Args:
        settings: each worker's
        holder: a socket bound to the port and not listening
        on_serving: told once, when all workers answer

    Raises:
        CommandError: a worker could not start
    """
    if settings.threads is None:
        settings = settings.model_copy(update={"threads": max(1, num_cores() // settings.workers)})
    with TemporaryDirectory(prefix="superpos-") as folder:
        config = uvicorn.Config(
            Worker(settings, Path(folder)),
            factory=True,
            http="h11",
            loop="asyncio",
            workers=settings.workers,
            log_config=None,
            access_log=False,
            timeout_worker_healthcheck=_HUNG_S,
        )
        workers = Workers(config, holder, Path(folder), on_serving, settings)
        workers.run()
    if workers.failure is not None:
        raise CommandError(workers.failure)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Worker:
    """Makes one worker's application; travels to the new process as it is, and reads no environment there."""

    settings: Settings
    folder: Path
    """Shared by the workers and their parent: metrics, and why one could not start."""

    def __call__(self) -> "FastAPI":
        # here, so that a process that only just began can tell its parent that it lives
        from adapters.errors import AdapterError
        from backbone import BackboneError
        from service.app import create_app
        from service.telemetry.logging import configure_logging
        from service.telemetry.multiprocess import join

        configure_logging(self.settings.log_format, self.settings.log_level)
        threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
        try:
            return create_app(self.settings, shared=join(self.folder), on_model_failure=lambda reason: _end())
        except (AdapterError, BackboneError) as exc:
            _reason_file(self.folder, os.getpid()).write_text(str(exc), encoding="utf-8")
            sys.exit(STARTUP_FAILURE)


class WorkerProcess(Process):
    """A worker's process, whose server drains as one alone does."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], settings: Settings) -> None:
        super().__init__(config, sockets)
        self._settings = settings

    @property
    def server(self) -> uvicorn.Server:
        """Made in the new process."""
        if self._server is None:
            self._server = DrainingServer(
                self.config,
                drain_delay_s=self._settings.drain_delay_s,
                drain_timeout_s=self._settings.drain_timeout_s,
            )
        return self._server


class Workers(Multiprocess):
    """The processes. One that served and dies is replaced; so is a replacement, as long as another serves.

    One that ends before all have served once, or when no other serves, ends the server: `failure` then says why.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        holder: socket.socket,
        folder: Path,
        on_serving: Callable[[], None],
        settings: Settings,
    ) -> None:
        super().__init__(config, [])
        self.failure: str | None = None
        self._holder, self._folder, self._on_serving = holder, folder, on_serving
        self._settings = settings
        self._complete = False
        self._serving: set[int] = set()
        self._asked_at: dict[int, float] = {}
        self._buried: set[int] = set()
        self._replaced_at = 0.0

    def init_processes(self) -> None:
        self.processes = [self._start() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Look at each worker once; never waits for one, so that a signal is heard at once."""
        for index, process in enumerate(self.processes):
            if self._lives(process):
                continue
            if self.signal_queue:
                return  # a signal to the whole group ends the workers too: that is no death
            self._bury(process)
            if self.failure is not None:
                self.should_exit.set()
                return
            if time.monotonic() >= self._replaced_at + _RESTART_PAUSE_S:
                self._replaced_at = time.monotonic()
                self.processes[index] = self._start()
        if not self._complete and len(self._serving) == self.processes_num:
            self._complete = True
            self._on_serving()

    def handle_hup(self) -> None:
        """Nothing: how many workers there are, and what they were told, stays as it was at the start."""

    handle_ttin = handle_ttou = handle_hup

    def _start(self) -> Process:
        with share(self._holder) as listener:  # the worker's alone, so that it closes when the worker dies
            process = WorkerProcess(self.config, [listener], self._settings)
            process.start()
        assert process.pid is not None
        self._buried.discard(process.pid)  # a system gives ids again
        self._asked_at.pop(process.pid, None)
        return process

    def _lives(self, process: Process) -> bool:
        """Whether the process runs and has answered lately; asks it again where it has."""
        assert process.pid is not None
        if process.pid in self._buried or not process.process.is_alive():
            return False
        if process.pid in self._asked_at:
            if not process.parent_conn.poll():
                return time.monotonic() < self._asked_at[process.pid] + _HUNG_S
            if process.parent_conn.recv():
                self._serving.add(process.pid)
        process.parent_conn.send(b"ping")
        self._asked_at[process.pid] = time.monotonic()
        return True

    def _bury(self, process: Process) -> None:
        """End what is left of it, and tell; only once for each."""
        import structlog

        from service.telemetry.multiprocess import forget_dead

        assert process.pid is not None
        if process.pid in self._buried:
            return
        self._buried.add(process.pid)
        process.kill()
        process.join()
        forget_dead(self._folder)
        reason_file = _reason_file(self._folder, process.pid)
        reason = reason_file.read_text(encoding="utf-8") if reason_file.exists() else None
        reason_file.unlink(missing_ok=True)
        had_served = process.pid in self._serving
        self._serving.discard(process.pid)
        if not had_served and not (self._complete and self._serving):
            self.failure = reason or f"a worker ended at its start with status {process.exitcode}; its log says why"
            return
        structlog.get_logger("service").warning("worker_died", pid=process.pid, status=process.exitcode, reason=reason)


def _reason_file(folder: Path, pid: int) -> Path:
    return folder / f"{pid}.reason"


def _end() -> None:
    """Drain, then die by the signal, which no stuck thread can hold up; the parent replaces the process."""
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with_parent() -> None:
    """Workers without their parent would hold the port for ever: drain and end as at a signal."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
