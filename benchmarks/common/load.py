"""Load for any protocol: closed and open loops, and their outcomes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

REPLY_TIMEOUT_S = 120.0

Ask = Callable[[int], Awaitable[int | None]]
"""Maps a request's number to the number of answered rows; None for a refusal."""


@dataclass(slots=True)
class Load:
    """Outcome of one period of load."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Processor seconds of this process: of the generator, if the server is another process."""
    rows: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds of each answered request."""
    failures: int = 0

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.wall_s

    def add(self, rows: int | None, seconds: float) -> None:
        """Count one response."""
        if rows is None:
            self.failures += 1
        else:
            self.rows += rows
            self.latencies.append(seconds)


async def closed_loop(clients: Sequence[Ask], *, seconds: float, first: int = 0) -> Load:
    """Run clients that send the next request after each response: the resulting rate is saturation.

    Free clients take the requests in order, from number `first`. The period ends with the last response to a request
    that was sent within `seconds`.
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
    """Send requests at their scheduled times, regardless of responses.

    Latencies start at the *scheduled* arrival, so that neither a late generator nor a slow server hides any of it (no
    coordinated omission).
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
