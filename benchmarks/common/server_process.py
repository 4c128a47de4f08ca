"""Server processes under benchmark, Superpos and peers: start, wait, and stop with all their children."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from backbone import Precision
from benchmarks.common.http_load import Call, Reply, ask, call
from benchmarks.common.workload import Item

PEERS = Path(__file__).parents[1] / "serving" / "peers"
SUPERPOS = str(Path(sys.executable).with_name("superpos"))
THREADS = os.cpu_count() or 1
STOP_TIMEOUT_S = 20.0
NUM_PEERS = 3
PRECISION = cast(Precision, os.environ.get("SUPERPOS_PRECISION", "fp32"))
"""Precision of the servers under benchmark: fp32 on every processor, unless the environment names another."""


@dataclass(frozen=True, slots=True)
class Question:
    """Inputs of one task, as fields and as rendered texts."""

    task: str
    items: tuple[Item, ...]
    texts: tuple[str, ...]
    max_tokens: int

    def singles(self) -> list["Question"]:
        """Return one question per input."""
        pairs = zip(self.items, self.texts, strict=True)
        return [Question(self.task, (item,), (text,), self.max_tokens) for item, text in pairs]


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the tasks, and the form of its requests."""

    name: str
    command: Callable[[int], Sequence[str]]
    """Maps a port to a command line."""
    call: Callable[[str, Question], Call]
    """Maps its address and a question to a request."""
    needs: str | None = None
    """Module that its interpreter must have."""
    environment: Mapping[str, str] | None = None


def superpos_server(registry: Path) -> Server:
    """Return the server of this project, as `superpos serve` starts it."""

    def request(url: str, question: Question) -> Call:
        body = json.dumps({"inputs": question.items, "truncate": "end"}).encode()
        return call(url, f"/classify/{question.task}", body, rows=len(question.items))

    def command(port: int) -> Sequence[str]:
        return (SUPERPOS, "serve", "--port", str(port), "--registry", str(registry), "--log-format", "json")

    return Server("superpos", command, request, environment={"SUPERPOS_PRECISION": PRECISION})


def peer_servers(python: Path, *, backbone: Path, adapters: Path, scratch: Path) -> list[Server]:
    """Return the peers, which run in their own interpreter on the same backbone and adapter folders.

    They receive rendered texts, since they have no templates.
    """

    def command(script: str) -> Callable[[int], Sequence[str]]:
        folders = ("--backbone", str(backbone), "--adapters", str(adapters), "--threads", str(THREADS))
        return lambda port: (str(python), str(PEERS / script), *folders, "--port", str(port))

    def to_path(url: str, question: Question) -> Call:
        return call(url, f"/classify/{question.task}", _json(inputs=question.texts), rows=len(question.texts))

    def to_body(url: str, question: Question) -> Call:
        body = _json(task=question.task, inputs=question.texts)
        return call(url, "/predict", body, rows=len(question.texts))

    def to_header(url: str, question: Question) -> Call:
        header = f"serve_multiplexed_model_id: {question.task}\r\n"
        return call(url, "/", _json(inputs=question.texts), rows=len(question.texts), headers=header)

    ray = {"RAY_TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    return [
        Server("FastAPI + PEFT", command("fastapi_peft.py"), to_path, "fastapi"),
        Server("LitServe + PEFT", command("litserve_peft.py"), to_body, "litserve"),
        Server("Ray Serve + PEFT", command("ray_peft.py"), to_header, "ray.serve", ray),
    ]


def missing(peer: Server) -> str | None:
    """Return why a peer cannot run here, or None."""
    python = Path(peer.command(0)[0])
    if not python.exists():
        return f"no {python}"
    found = subprocess.run([python, "-c", f"import peft, {peer.needs}"], capture_output=True, check=False)
    return None if found.returncode == 0 else f"{peer.needs} or peft is not installed there"


@contextmanager
def started(server: Server, *, log: Path) -> Iterator[str]:
    """Start a server on a free port and yield its address at once; stop it with all its children."""
    port = free_port()
    # the peers' interpreter must not find our packages, neither in the working folder nor by the environment
    left_out = set() if server.needs is None else {"PYTHONPATH", "GOMP_SPINCOUNT"}
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    environment = {**inherited, **(server.environment or {})}
    with log.open("w") as output:
        process = subprocess.Popen(
            server.command(port), stdout=output, stderr=output, env=environment, cwd=log.parent, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, then kill the rest of its session (LitServe's workers survive a SIGTERM)."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class DoesNotAnswer(Exception):
    """The started server did not respond in time."""


async def until_it_answers(url: str, request: Call, *, log: Path, timeout_s: float = 180) -> Reply:
    """Poll a starting server until its first 200; raise `DoesNotAnswer` after a timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(30):
                reply = await ask(url, request)
            if reply.status == 200:
                return reply
        await asyncio.sleep(0.2)
    raise DoesNotAnswer(f"no answer within {timeout_s:g} s; it said: {tail(log)}")


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-2_000:]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _json(**body: object) -> bytes:
    return json.dumps(body).encode()
