"""Cost of changes: an adapter's first request, a version published by another process, and swaps under load."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.adapters.counts import classify
from benchmarks.common.publishing import Publisher, name
from benchmarks.common.workload import Item
from service.runtime import Runtime

CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Swap:
    """Result of publishing versions one after another under constant load."""

    versions: int
    answers: int
    failures: int
    """Requests without an answer, or with an older version than an earlier answer."""


async def cold_extra_s(runtime: Runtime, items: Sequence[Item], *, first: int, count: int) -> list[float]:
    """Measure the additional time of the first request over the second.

    Args:
        first: number of the first of `count` adapters that were not used since the start
    """
    for item in items[:20]:
        await classify(runtime, name(0), item)
    extra = []
    for number in range(first, first + count):
        item = items[number % len(items)]
        cold = await seconds(runtime, name(number), item)
        extra.append(cold - await seconds(runtime, name(number), item))
    return extra


async def seconds(runtime: Runtime, task: str, item: Item) -> float:
    """Measure the latency of one request in an idle server."""
    started = time.perf_counter()
    await classify(runtime, task, item)
    return time.perf_counter() - started


async def publish_to_served_s(runtime: Runtime, other: Publisher, item: Item, number: int) -> float:
    """Measure the time from the start of another process's publication to the first answer by the new version.

    The task has constant load, like a task in use.
    """
    task = name(number)
    before = (await classify(runtime, task, item)).resolution.version
    publishing = asyncio.create_task(other.publish(number, number, seed=1_000))
    while (await classify(runtime, task, item)).resolution.version == before:
        pass
    served = time.monotonic()
    return served - await publishing


async def swap_under_load(runtime: Runtime, other: Publisher, items: Sequence[Item], *, versions: int) -> Swap:
    """Publish version after version of one task under constant load."""
    task, answers, failures, over = name(0), 0, 0, False

    async def client(offset: int) -> None:
        nonlocal answers, failures
        newest, turn = 0, offset
        while not over:
            turn += 1
            try:
                version = (await classify(runtime, task, items[turn % len(items)])).resolution.version
            except Exception:  # noqa: BLE001 - whatever it is, it is what must not happen
                failures += 1
                continue
            answers += 1
            failures += version < newest
            newest = max(newest, version)

    async with asyncio.TaskGroup() as clients:
        for offset in range(CLIENTS):
            clients.create_task(client(offset))
        for seed in range(versions):
            await other.publish(0, 0, seed=2_000 + seed)
            latest = (await classify(runtime, task, items[0])).resolution.version
            while latest == (await classify(runtime, task, items[0])).resolution.version:
                pass
        over = True
    return Swap(versions, answers, failures)
