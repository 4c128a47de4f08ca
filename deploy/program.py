"""One program of the platform as a process: started, waited for, ended, its output passed on line by line."""

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
"""Takes a program's name and a line that it wrote."""


class ProgramFailed(RuntimeError):
    """A program ended at its start, or did not become ready in time."""


@dataclass
class Program:
    """A command that runs until it is stopped; started again it is the same program as before."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    """All of it: what this process was given is not passed on, but for PATH."""
    is_ready: Callable[[], bool]
    sink: Sink
    ready_within_s: float = 120.0
    stop_signal: signal.Signals = signal.SIGTERM
    _process: "subprocess.Popen[str] | None" = None
    _reader: threading.Thread | None = None
    _last: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The status with which it ended by itself; None while it runs or is not meant to."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process; it may not be ready yet."""
        assert self._process is None, f"{self.name} runs already"
        self._last.clear()
        self._process = subprocess.Popen(
            [str(word) for word in self.command],
            env={"PATH": os.environ.get("PATH", os.defpath), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # a group of its own: Ctrl-C reaches the platform, which ends its programs in their order
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            ProgramFailed: it ended, or took longer than `ready_within_s`
        """
        assert self._process is not None
        deadline = time.monotonic() + self.ready_within_s
        while not self.is_ready():
            if self._process.poll() is not None:
                self._join()
                raise ProgramFailed(
                    f"{self.name} ended at its start with status {self._process.returncode}: {' | '.join(self._last)}"
                )
            if time.monotonic() > deadline:
                raise ProgramFailed(f"{self.name} was not ready within {self.ready_within_s:.0f} s")
            time.sleep(_POLL_S)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, *, within_s: float = 60.0) -> int:
        """Its status, once it has ended (`subprocess.TimeoutExpired` where it does not)."""
        assert self._process is not None
        status = self._process.wait(within_s)
        self._join()
        self._process = None
        return status

    def stop(self, *, within_s: float = 60.0) -> int | None:
        """End it in order, killed where it does not obey; its status, None where it did not run."""
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
        """Whether it was started and nobody has seen its end."""
        return self._process is not None

    def kill(self) -> int:
        """End it as a crash would."""
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
