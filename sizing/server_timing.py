"""Costs of a server over HTTP: its start, its memory, and the time of a request outside of the model."""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sizing.errors import MeasuringFailed
from sizing.model_timing import BackboneSource
from sizing.processes import main_thread_s, resident_bytes

HOST = "127.0.0.1"
ROWS = (1, 8)
"""Texts per request, of which the second shows the cost of a further row."""
_WORDS = "a film that is as gripping as it is long"
_START_LIMIT_S = 600.0
_REPLY_LIMIT_S = 120.0
_STOP_LIMIT_S = 60.0
_POLL_S = 0.05
_IDLE_S = 1.0
_LARGEST = (12, 7)
"""Texts of the largest batch, and how often each repeats the words."""


@dataclass(frozen=True, slots=True)
class RequestCosts:
    """Costs of a server's requests."""

    request_s: float
    """Processor time of the event loop per request."""
    request_row_s: float
    """The same per row, in addition."""
    overhead_s: float
    """Duration of a request of one row, less queue and model."""


@dataclass(frozen=True, slots=True)
class ServerCosts:
    """Costs of a server."""

    start_s: float
    resident_bytes: int
    """After its largest batch."""
    requests: RequestCosts


def server_costs(source: BackboneSource, registry: Path, task: str, *, threads: int, requests: int) -> ServerCosts:
    """Start a server on a registry, and send it requests one by one.

    Args:
        source: the backbone
        registry: a SQLite registry that has the task
        task: the task of all requests
        threads: threads of the model
        requests: number of requests of each size

    Raises:
        MeasuringFailed: the server ended, or did not answer
    """
    started = time.monotonic()
    with _server(source, registry, threads) as (process, port, log):
        _wait_until_ready(process, port, log)
        start_s = time.monotonic() - started
        with closing(http.client.HTTPConnection(HOST, port, timeout=_REPLY_LIMIT_S)) as connection:
            texts, times = _LARGEST
            for _ in range(3):
                _classify(connection, task, [_WORDS * times] * texts)
        largest = resident_bytes(process.pid)
        return ServerCosts(start_s, largest, request_costs(process.pid, port, task, requests=requests))


def request_costs(pid: int, port: int, task: str, *, requests: int) -> RequestCosts:
    """Measure the requests of a running server, whose event loop is the first thread of a process."""
    idle = _processor_share(pid)
    with closing(http.client.HTTPConnection(HOST, port, timeout=_REPLY_LIMIT_S)) as connection:
        one, several = (_requests(connection, pid, task, rows=rows, count=requests, idle=idle) for rows in ROWS)
    row_s = max(0.0, (several.loop_s - one.loop_s) / (ROWS[1] - ROWS[0]))
    return RequestCosts(max(0.0, one.loop_s - row_s), row_s, one.overhead_s)


@dataclass(frozen=True, slots=True)
class _Requests:
    overhead_s: float
    """Median of the latencies, less queue and model."""
    loop_s: float
    """Processor time of the event loop per request; the overhead where the system does not report it."""


def _requests(
    connection: http.client.HTTPConnection, pid: int, task: str, *, rows: int, count: int, idle: float
) -> _Requests:
    """Send requests one by one; `idle` is the share of a core that the event loop takes without any."""
    before, began = main_thread_s(pid), time.monotonic()
    overheads: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        model_s = _classify(connection, task, [_WORDS] * rows)
        overheads.append(time.perf_counter() - started - model_s)
    after, lasted_s = main_thread_s(pid), time.monotonic() - began
    overhead_s = statistics.median(overheads)
    if before is None or after is None:
        return _Requests(overhead_s, overhead_s)
    return _Requests(overhead_s, max(0.0, after - before - idle * lasted_s) / count)


def _classify(connection: http.client.HTTPConnection, task: str, texts: Sequence[str]) -> float:
    """Classify texts, and return the seconds in queue and model that the server states."""
    body = json.dumps({"inputs": texts, "truncate": "end"})
    connection.request("POST", f"/classify/{task}", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise MeasuringFailed(f"the server answered {response.status}: {answer[:500].decode(errors='replace')}")
    stages = dict(stage.split(";dur=") for stage in response.headers["Server-Timing"].split(", "))
    return (float(stages["queue"]) + float(stages["infer"])) / 1_000


def _processor_share(pid: int) -> float:
    """Return the share of a core that an idle server's event loop takes."""
    before = main_thread_s(pid)
    time.sleep(_IDLE_S)
    after = main_thread_s(pid)
    return 0.0 if before is None or after is None else (after - before) / _IDLE_S


@contextmanager
def _server(
    source: BackboneSource, registry: Path, threads: int
) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Run a server on a free port."""
    with socket.create_server((HOST, 0)) as probe:
        port = int(probe.getsockname()[1])
    log = registry.with_suffix(".log")
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--host", HOST, "--port", str(port)]
    command += ["--registry", str(registry), "--threads", str(threads), "--backbone", source.source]
    command += ["--cache-dir", str(source.cache_dir), "--log-format", "json", "--precision", "fp32"]
    command += [] if source.revision is None else ["--revision", source.revision]
    command += ["--offline"] if source.offline else []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process, port, log
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while not _is_ready(port):
        if process.poll() is not None:
            end = log.read_text(encoding="utf-8", errors="replace")[-1_000:]
            raise MeasuringFailed(f"the server ended with status {process.returncode}: {end}")
        if time.monotonic() > deadline:
            raise MeasuringFailed(f"the server was not ready within {_START_LIMIT_S:.0f} s")
        time.sleep(_POLL_S)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=_REPLY_LIMIT_S)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
