"""A program of the platform as a process: start, wait, stop, and forward its output line by line."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_POLL_S = 0.1

Sink = Callable[[str, str], None]
"""Called with a program's name and a line of its output."""


class ProgramFailed(RuntimeError):
    """The program exited at its start, or was not ready in time."""


@dataclass
class Program:
    """A command that runs until it is stopped and can be restarted."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    """The complete environment: of this process's own only PATH is passed."""
    is_ready: Callable[[], bool]
    sink: Sink
    ready_within_s: float = 120.0
    stop_signal: signal.Signals = signal.SIGTERM
    _process: "subprocess.Popen[str] | None" = None
    _reader: threading.Thread | None = None
    _last: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The status of an unexpected exit; None while the program runs or is stopped."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process without waiting until it is ready."""
        assert self._process is None, f"{self.name} is already running"
        self._last.clear()
        self._process = subprocess.Popen(
            [str(word) for word in self.command],
            env={"PATH": os.environ.get("PATH", os.defpath), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            umask=0o077,  # the programs write keys and tenants' texts, some of them in files readable for all
            # a separate group: Ctrl-C reaches the platform only, which stops its programs in order
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until the program responds.

        Raises:
            ProgramFailed: it exited, or took longer than `ready_within_s`
        """
        assert self._process is not None
        deadline = time.monotonic() + self.ready_within_s
        while not self.is_ready():
            if self._process.poll() is not None:
                self._join()
                raise ProgramFailed(
                    f"{self.name} failed to start, status {self._process.returncode}: {' | '.join(self._last)}"
                )
            if time.monotonic() > deadline:
                raise ProgramFailed(f"{self.name} was not ready within {self.ready_within_s:.0f} s")
            time.sleep(_POLL_S)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, *, within_s: float = 60.0) -> int:
        """Wait for the exit and return the status; raise `subprocess.TimeoutExpired` after the timeout."""
        assert self._process is not None
        status = self._process.wait(within_s)
        self._join()
        self._process = None
        return status

    def stop(self, *, within_s: float = 60.0) -> int | None:
        """Terminate the process, kill it after a timeout, and return its status (None if it did not run)."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
        try:
            return self.wait(within_s=within_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    @property
    def is_started(self) -> bool:
        """Return whether the process was started and its exit is not yet known."""
        return self._process is not None

    def kill(self) -> int:
        """Kill the process, as a crash would."""
        assert self._process is not None
        self._process.kill()
        return self.wait()

    def _join(self) -> None:
        assert self._reader is not None
        self._reader.join(10)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._last.append(line.strip())
                del self._last[:-3]
                self.sink(self.name, line.rstrip("\n"))
