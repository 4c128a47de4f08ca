"""What ten thousand adapters take in memory, with the server's own parts in this process."""

import asyncio
import gc
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters import DEFAULT_TENANT, Ref
from benchmarks.adapter_counts import classify
from benchmarks.publishing import Publisher, name
from benchmarks.workload import Item
from service.world import World

AT_ONCE = 100
"""Adapters that are published in one go, and made resident side by side."""
WARM_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory with one adapter and with many."""

    count: int
    one_bytes: int
    many_bytes: int
    prompt_bytes: int
    """A prompt's own: P × H float32."""

    @property
    def bytes_each(self) -> float:
        return (self.many_bytes - self.one_bytes) / (self.count - 1)


async def fill(
    world: World, other: Publisher, items: Sequence[Item], *, count: int, done: Callable[[str], None]
) -> Memory:
    """From one adapter to `count`: published by the other process, followed, loaded, and resident in the bank.

    The server's allocations for a batch are warm before: the same batches run over one adapter first.
    """
    for _ in range(WARM_ROUNDS):
        await asyncio.gather(*(classify(world, name(0), item) for item in items[:AT_ONCE]))
        await asyncio.gather(*(smoke(world, 0) for _ in range(AT_ONCE)))
    one = resident_bytes()
    for first in range(1, count, AT_ONCE):
        await other.publish(first, min(first + AT_ONCE, count) - 1, seed=1)
        done("publishing")
    await world.follower.refresh()
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*(smoke(world, number) for number in range(first, min(first + AT_ONCE, count))))
        done("making resident")
    resident = world.engine.stats().resident_adapters
    assert resident == count, f"{resident} adapters are resident, expected {count}"
    return Memory(count, one, resident_bytes(), 4 * 10 * world.backbone.width)


async def smoke(world: World, number: int) -> None:
    """The shortest possible row of an adapter: it is in the bank then."""
    digest = world.catalog.resolve(DEFAULT_TENANT, Ref.parse(name(number))).digest
    await world.classifier.try_out(await world.adapters.get(digest), timeout_s=60)


def resident_bytes() -> int:
    """This process's resident memory."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except FileNotFoundError:  # not Linux
        kilobytes = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)
        return int(kilobytes.stdout) * 1_024
