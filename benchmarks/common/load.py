"""Load as such: callers who wait for their answers, callers who do not, and what became of them. Knows no protocol."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

REPLY_TIMEOUT_S = 120.0

Ask = Callable[[int], Awaitable[int | None]]
"""From a request's number to the rows that were answered; None for a refusal."""


@dataclass(slots=True)
class Load:
    """What became of one stretch of load."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """What this process burnt meanwhile: the generator, where the server is another process."""
    rows: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds, of the requests that were answered."""
    failures: int = 0

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.wall_s

    def add(self, rows: int | None, seconds: float) -> None:
        """Count one answer."""
        if rows is None:
            self.failures += 1
        else:
            self.rows += rows
            self.latencies.append(seconds)


async def closed_loop(clients: Sequence[Ask], *, seconds: float, first: int = 0) -> Load:
    """Clients that ask again as soon as they are answered: the rate that comes out is saturation.

    They take the requests in order from number `first` on, whoever is free the next. Counts from the start to the last
    answer of what was asked within `seconds`.
    """
    load, turn = Load(), count(first)
    started, cpu = time.perf_counter(), time.process_time()

    async def client(ask: Ask) -> None:
        while (asked := time.perf_counter()) - started < seconds:
            load.add(await ask(next(turn)), time.perf_counter() - asked)

    async with asyncio.timeout(seconds + REPLY_TIMEOUT_S):
        await asyncio.gather(*map(client, clients))
    load.wall_s, load.cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return load


async def open_loop(ask: Ask, arrivals: Sequence[float], *, first: int = 0) -> Load:
    """Requests that come when they come, however slow the answers are.

    A latency counts from the *scheduled* arrival: neither a late generator nor a slow server hides any of it
    (no coordinated omission).
    """
    load = Load()
    started, cpu = time.perf_counter(), time.process_time()

    async def one(number: int, arrival: float) -> None:
        load.add(await ask(number), time.perf_counter() - started - arrival)

    async with asyncio.timeout(arrivals[-1] + REPLY_TIMEOUT_S), asyncio.TaskGroup() as asked:
        for number, arrival in enumerate(arrivals, start=first):
            await asyncio.sleep(max(0.0, started + arrival - time.perf_counter()))
            asked.create_task(one(number, arrival))
    load.wall_s, load.cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return load
