"""Several server processes on one port: a supervisor that starts, watches, replaces and stops them.

Each worker has a listening socket of its own. With one shared socket the first worker to wake up takes whole bursts of
connections (13 of 16 kept-alive ones, 12 of 14); with several, the kernel spreads connections evenly.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import structlog

from service.cores import num_cores
from service.memory import without_collections
from service.server.graceful import DrainingServer
from service.server.sockets import share
from service.settings import Settings
from service.telemetry.multiprocess import forget_dead, join

if TYPE_CHECKING:
    from fastapi import FastAPI

_HEARTBEAT_S = 1.0
_HUNG_S = 30.0
"""A worker without a heartbeat for this long is killed. The heartbeat thread needs the interpreter, not the event loop:
no Python code holds it up for so long."""
_RESTART_PAUSE_S = 5.0
"""Between two replacements, so that a worker that cannot start takes little time from those that serve."""
_TICK_S = 0.5
_log = structlog.get_logger("service")


class StartupFailed(RuntimeError):
    """The workers could not start; the message says why."""


def serve_with_workers(settings: Settings, holder: socket.socket, *, on_serving: Callable[[], None]) -> None:
    """Serve until a signal ends the process; accepted requests are answered first.

    Args:
        settings: the settings of each worker
        holder: a socket that is bound to the port and does not listen
        on_serving: called once, when all workers answer

    Raises:
        StartupFailed: a worker could not start
    """
    if settings.threads is None:
        settings = settings.model_copy(update={"threads": max(1, num_cores() // settings.workers)})
    with TemporaryDirectory(prefix="superpos-") as folder:
        Supervisor(settings, holder, Path(folder), on_serving).run()


@dataclass(slots=True)
class Worker:
    """A worker process as the supervisor sees it."""

    process: BaseProcess
    reports: connection.Connection
    """Heartbeats: whether the worker serves requests. Or a text: why it could not start."""
    heard_at: float = field(default_factory=time.monotonic)
    has_served: bool = False
    reason: str | None = None
    is_buried: bool = False

    def is_alive(self) -> bool:
        """Whether the process runs and has sent a heartbeat recently."""
        if self.is_buried:
            return False  # it waits to be replaced, and its pipe is closed
        self._listen()
        return self.process.is_alive() and time.monotonic() < self.heard_at + _HUNG_S

    def bury(self) -> None:
        """Kill what is left of the process, and read its last words."""
        self.process.kill()
        self.process.join()
        self._listen()
        self.reports.close()
        self.is_buried = True

    def _listen(self) -> None:
        with suppress(EOFError):  # the process has ended
            while self.reports.poll():
                report = self.reports.recv()
                if isinstance(report, str):
                    self.reason = report
                self.has_served |= report is True
                self.heard_at = time.monotonic()


class Supervisor:
    """The parent of the worker processes.

    It replaces a worker that dies after it has served, and a replacement that cannot start as long as another worker
    serves. Any other death ends the server (`StartupFailed`).
    """

    def __init__(self, settings: Settings, holder: socket.socket, folder: Path, on_serving: Callable[[], None]) -> None:
        self._settings, self._holder, self._folder, self._on_serving = settings, holder, folder, on_serving
        self._workers: list[Worker] = []
        self._all_have_served = self._stopping = False
        self._replaced_at = 0.0

    def run(self) -> None:
        """Supervise until a signal arrives; then stop the workers and wait for them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: None)  # settings are read only at the start
        try:
            self._workers = [self._start() for _ in range(self._settings.workers)]
            while not self._stopping:
                connection.wait([worker.process.sentinel for worker in self._workers if not worker.is_buried], _TICK_S)
                self._check()
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self) -> Worker:
        spawn = get_context("spawn")
        reports, pipe = spawn.Pipe(duplex=False)
        # only the worker keeps its listening socket and its end of the pipe, so that both close when it dies
        with share(self._holder) as listener, pipe:
            process = spawn.Process(target=_run_worker, args=(self._settings, self._folder, listener, pipe))
            process.start()
        return Worker(process, reports)

    def _check(self) -> None:
        """Look at each worker once, without waiting for any."""
        for index, worker in enumerate(self._workers):
            if worker.is_alive():
                continue
            if self._stopping:
                return  # the signal went to the whole process group: the workers end as they should
            if not worker.is_buried:
                self._bury(worker)
            if time.monotonic() >= self._replaced_at + _RESTART_PAUSE_S:
                self._replaced_at = time.monotonic()
                self._workers[index] = self._start()
        if not self._all_have_served and all(worker.has_served for worker in self._workers):
            self._all_have_served = True
            self._on_serving()

    def _bury(self, worker: Worker) -> None:
        worker.bury()
        forget_dead(self._folder)
        pid, status, reason = worker.process.pid, worker.process.exitcode, worker.reason
        others_serve = self._all_have_served and any(w.has_served for w in self._workers if not w.is_buried)
        if not worker.has_served and not others_serve:
            raise StartupFailed(reason or f"a worker ended at its start with status {status}; its log says why")
        _log.warning("worker_died", pid=pid, status=status, reason=reason)


def _run_worker(settings: Settings, folder: Path, listener: socket.socket, reports: connection.Connection) -> None:
    """Serve in a worker process, which ends with its parent."""
    lock = threading.Lock()

    def report(value: bool | str) -> None:
        with lock:
            reports.send(value)

    def build() -> "FastAPI":
        # slow to import: the first heartbeat comes before
        with without_collections():
            from adapters.errors import AdapterError
            from backbone import BackboneError
            from service.loading import begin_loading

            loading = begin_loading(settings)
            from service.app import create_app

            try:
                return create_app(
                    settings, loading=loading, shared=join(folder), on_model_failure=lambda reason: _end()
                )
            except (AdapterError, BackboneError) as exc:
                report(str(exc))
                sys.exit(1)

    def send_heartbeats() -> None:
        try:
            while True:
                report(server.started)
                time.sleep(_HEARTBEAT_S)
        except OSError:  # the parent is gone: without it the workers would hold the port for ever
            _end()

    from service.telemetry.logging import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    server = DrainingServer(build, settings)
    threading.Thread(target=send_heartbeats, name="heartbeats", daemon=True).start()
    with suppress(KeyboardInterrupt):  # raised by uvicorn again, after Ctrl-C was handled
        server.run(sockets=[listener])


def _end() -> None:
    """Drain, then die by the signal, which no stuck thread can hold up."""
    os.kill(os.getpid(), signal.SIGTERM)
