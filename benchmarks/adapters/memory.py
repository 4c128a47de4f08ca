"""Memory of ten thousand adapters, with the server's own parts in this process."""

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.adapters.counts import classify
from benchmarks.common.publishing import Publisher, name
from benchmarks.common.workload import Item
from service.memory import release_freed
from service.runtime import Runtime
from sizing.processes import resident_bytes

AT_ONCE = 100
"""Number of adapters that are published and loaded together."""
WARM_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory with one adapter and with many."""

    count: int
    one_bytes: int
    many_bytes: int
    prompt_bytes: int
    """Size of a prompt: P × H float32."""

    @property
    def bytes_each(self) -> float:
        return (self.many_bytes - self.one_bytes) / (self.count - 1)


async def fill(
    runtime: Runtime, other: Publisher, items: Sequence[Item], *, count: int, done: Callable[[str], None]
) -> Memory:
    """Measure the growth from one adapter to `count`: published by the other process, loaded, in the prompt table.

    The same batches run over one adapter first, so that the server's allocations for a batch exist before.
    """
    shortest = min(items, key=lambda item: sum(map(len, item.values())))
    for _ in range(WARM_ROUNDS):
        await asyncio.gather(*(classify(runtime, name(0), item) for item in items[:AT_ONCE]))
        await asyncio.gather(*(classify(runtime, name(0), shortest) for _ in range(AT_ONCE)))
    one = _own_bytes()
    for first in range(1, count, AT_ONCE):
        await other.publish(first, min(first + AT_ONCE, count) - 1, seed=1)
        done("publishing")
    await runtime.registry.sync.refresh()
    for first in range(0, count, AT_ONCE):
        tasks = map(name, range(first, min(first + AT_ONCE, count)))
        await asyncio.gather(*(classify(runtime, task, shortest) for task in tasks))
        done("making resident")
    resident = runtime.inference.engine.stats().resident_adapters
    assert resident == count, f"{resident} adapters are resident, expected {count}"
    return Memory(count, one, _own_bytes(), 4 * 10 * runtime.backbone.width)


def _own_bytes() -> int:
    """Return the resident memory that is in use: what a batch leaves to C's allocator for the next one is returned."""
    gc.collect()
    release_freed()
    return resident_bytes(os.getpid())
