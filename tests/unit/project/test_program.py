"""Programs as processes: what they wrote, how they end, and who starts them again."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import eventually

from deploy.platform import keep_running
from deploy.program import Program, ProgramFailed

OBEYS = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('up', flush=True)\nsignal.pause()"
)
IGNORES = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


@contextmanager
def program(script: str, *, within_s: float = 30, **environment: str) -> Iterator[tuple[Program, list[str]]]:
    lines: list[str] = []
    made = Program(
        "one",
        [sys.executable, "-c", script],
        environment,
        lambda: "up" in lines,
        lambda _, line: lines.append(line),
        ready_within_s=within_s,
    )
    try:
        yield made, lines
    finally:
        if made.ended is None:
            made.stop(within_s=0.1)


def test_a_program_is_started_waited_for_and_ended_in_order() -> None:
    with program(OBEYS) as (one, lines):
        one.start()
        one.wait_ready()
        assert one.ended is None
        assert one.stop() == 0
        assert one.stop() is None
        assert lines == ["up"]


def test_a_program_that_does_not_obey_is_killed() -> None:
    with program(IGNORES) as (one, _):
        one.start()
        one.wait_ready()
        assert one.stop(within_s=0.1) == -signal.SIGKILL


def test_a_program_that_ends_at_its_start_says_why() -> None:
    with program("import sys; print('no port'); sys.exit(3)") as (one, _):
        one.start()
        with pytest.raises(ProgramFailed, match="one failed to start, status 3: no port"):
            one.wait_ready()
        assert one.ended == 3


def test_a_program_that_never_answers_is_given_up() -> None:
    with program("import signal; signal.pause()", within_s=0.1) as (one, _):
        one.start()
        with pytest.raises(ProgramFailed, match="one was not ready within 0 s"):
            one.wait_ready()


def test_a_program_sees_no_environment_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERPOS_REGISTRY", "somewhere else")
    with program("import os; print(sorted(os.environ)); print('up')", OWN="1", LC_CTYPE="C") as (one, lines):
        one.start()
        one.wait_ready()
        assert lines[0] == str(["LC_CTYPE", "OWN", "PATH"])


def test_what_dies_is_started_again_until_the_platform_stops(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = threading.Event()
    with program(OBEYS) as (one, lines):
        one.start()
        one.wait_ready()
        keeper = threading.Thread(target=keep_running, args=([one], stopping), kwargs={"every_s": 0.01})
        keeper.start()
        try:
            os.kill(one.pid, signal.SIGKILL)
            eventually(lambda: lines.count("up") == 2)
        finally:
            stopping.set()
            keeper.join(30)
        assert one.ended is None
    assert "one exited with status -9; restarting it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "deploy.platform", "--port", str(port), "--folder", tmp_path],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("platform: Address already in use")
    assert done.stderr.endswith("choose another with --port or --prometheus-port\n")
    assert done.stderr.count("\n") == 1


def test_what_a_program_writes_is_its_owners_alone(tmp_path: Path) -> None:
    """Redis' append-only file holds hashes of keys, and has no setting for its permissions."""
    script = f"open({str(tmp_path / 'appendonly.aof')!r}, 'w').close(); {OBEYS}"
    with program(script) as (made, _):
        made.start()
        made.wait_ready()
        assert (tmp_path / "appendonly.aof").stat().st_mode & 0o077 == 0
