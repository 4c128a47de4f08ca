"""Engine in a separate process that answers lines of JSON: both ends of the pipe.

In separate processes, threads that spin after their work and libraries with their own OpenMP cannot slow down the other
engines.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTLE_S = 0.25
"""Pause before each turn, since OpenMP's threads spin after their work and would take the next engine's cores."""


@dataclass(slots=True)
class EngineProcess:
    """Handle of one engine's process."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def ask(self, question: object) -> object:
        """Send one line and read one."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended:\n{self.log.read_text()[-2_000:]}")
        return json.loads(line)

    def stop(self) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.wait()


def start(
    module: str,
    name: str,
    *arguments: str,
    log: Path,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> EngineProcess:
    """Start `python -m module name …`, which calls `answer_lines`, and wait until it is ready.

    It has a thread per core, unless the environment says otherwise.
    """
    threads = str(len(os.sched_getaffinity(0)))
    process = subprocess.Popen(
        [python, "-m", module, name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore", **(environment or {})},
    )
    assert process.stdout
    if not process.stdout.readline():
        raise SystemExit(f"{name} did not start:\n{log.read_text()[-2_000:]}")
    return EngineProcess(name, process, log)


def answer_lines(make: Callable[[], Callable[[object], object]]) -> None:
    """Run the engine's side: make it, then answer each line of standard input until its end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries is not an answer
    answer = make()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
