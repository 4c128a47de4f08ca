"""HTTP compared with the engine on the same rows: shares of its rate, overhead of one request, half load."""

import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.common.http_load import Call, Connection, closed_loop, open_loop
from benchmarks.common.in_process import Rows, engine_rate, engine_rows, engine_seconds
from benchmarks.common.load import Load
from benchmarks.common.schedule import poisson_arrivals
from benchmarks.common.server_process import Question, Server
from service.runtime import Runtime

SINGLE_CLIENTS = 64
BATCH_CLIENTS, BATCH_TEXTS = 16, 8
MIXED_CALLS = 32
LOAD_SHARE = 0.5

_INFER = re.compile(rb"^server-timing:.*?\binfer;dur=([0-9.]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bench:
    """Both sides: a server's address with its requests, and the engine in this process with its rows."""

    url: str
    runtime: Runtime
    singles: Sequence[Call]
    batches: Sequence[Call]
    single_rows: Sequence[Rows]
    batch_rows: Sequence[Rows]


async def bench_of(url: str, server: Server, runtime: Runtime, batches: Sequence[Question]) -> Bench:
    """Encode every request and tokenize every row. The single texts are those of the batches, mixed."""
    singles = mixed(batches)
    return Bench(
        url,
        runtime,
        [server.call(url, question) for question in singles],
        [server.call(url, question) for question in batches],
        [await engine_rows(runtime, question) for question in singles],
        [await engine_rows(runtime, question) for question in batches],
    )


def mixed(batches: Sequence[Question]) -> list[Question]:
    """Return the texts of all questions one by one, locally shuffled.

    Both kinds of requests then have the same rows in any period of load, and single texts form no runs of one task.
    """
    rng = random.Random(0)
    singles = []
    for first in range(0, len(batches), MIXED_CALLS):
        block = [single for question in batches[first : first + MIXED_CALLS] for single in question.singles()]
        singles += rng.sample(block, len(block))
    return singles


@dataclass(slots=True)
class Shares:
    """Measurements, one value per round."""

    engine: list[float] = field(default_factory=list)
    """Rows/s of the engine alone."""
    batch8: list[Load] = field(default_factory=list)
    single: list[Load] = field(default_factory=list)

    def share(self, loads: Sequence[Load]) -> float:
        """Return the median over rounds of HTTP's rows/s ÷ the engine's."""
        return statistics.median(load.rows_per_s / rate for load, rate in zip(loads, self.engine, strict=True))


async def saturate(bench: Bench, shares: Shares, *, seconds: float, first: int, done: Callable[[], None]) -> None:
    """Run one round: the engine, HTTP with eight texts, HTTP with one. Each round starts at another request."""
    chunks = [*bench.batch_rows[first % len(bench.batch_rows) :], *bench.batch_rows[: first % len(bench.batch_rows)]]
    shares.engine.append(engine_rate(bench.runtime, chunks, outstanding=BATCH_CLIENTS, seconds=seconds))
    done()
    by_eights = closed_loop(bench.url, bench.batches, clients=BATCH_CLIENTS, seconds=seconds, first=first)
    shares.batch8.append(await by_eights)
    done()
    by_ones = closed_loop(bench.url, bench.singles, clients=SINGLE_CLIENTS, seconds=seconds, first=first * BATCH_TEXTS)
    shares.single.append(await by_ones)
    done()


async def half_load(bench: Bench, rate: float, *, seconds: float, seed: int) -> Load:
    """Send Poisson arrivals of single texts at half of `rate` requests/s."""
    arrivals = poisson_arrivals(LOAD_SHARE * rate, seconds=seconds, seed=seed)
    return await open_loop(bench.url, bench.singles, arrivals, first=seed)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Overhead of single requests over the model, in milliseconds."""

    p50_ms: float
    model_time: str
    """Source of the model's time."""


async def overhead(bench: Bench, *, count: int, done: Callable[[], None]) -> Overhead:
    """Send one text at a time.

    Where the server states no model time, the same row runs in this process's engine after each. Otherwise nothing else
    runs: another process's forward would leave the server's caches cold, and its threads on the cores for a while.
    """
    connection = await Connection.open(bench.url)
    by_header: list[float] = []
    by_engine: list[float] = []
    for request, rows in zip(bench.singles[:count], bench.single_rows[:count], strict=True):
        asked = time.perf_counter()
        reply = await connection.ask(request)
        latency = time.perf_counter() - asked
        if infer := _INFER.search(reply.head):
            by_header.append(latency * 1_000 - float(infer[1]))
        else:
            by_engine.append((latency - engine_seconds(bench.runtime, rows)) * 1_000)
        done()
    connection.close()
    if by_header:
        return Overhead(statistics.median(by_header), "Server-Timing infer")
    return Overhead(statistics.median(by_engine), "the engine alone on the same row, in turn (no Server-Timing sent)")
