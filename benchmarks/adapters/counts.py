"""Rates and latencies of one classifier by number of adapters, on the same texts."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapters import DEFAULT_TENANT, Ref
from benchmarks.common.load import Ask, Load, closed_loop, open_loop
from benchmarks.common.publishing import name
from benchmarks.common.schedule import CHOICES, Choice, draw, percentile, poisson_arrivals
from benchmarks.common.workload import Item
from service.inference.predictions import Classification
from service.inference.request import InferenceRequest
from service.runtime import Runtime

CLIENTS = 64
LOAD_SHARE = 0.5
NUM_REQUESTS = 20_000
TIMEOUT_S = 60.0


@dataclass(slots=True)
class Measured:
    """One number of adapters under one choice, with one value per round."""

    saturated: list[Load] = field(default_factory=list)
    half: list[Load] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return sum(load.failures for load in (*self.saturated, *self.half))


Key = tuple[int, Choice]


async def classify(runtime: Runtime, task: str, item: Item) -> Classification:
    """Classify one text of one task through everything except HTTP."""
    request = InferenceRequest(DEFAULT_TENANT, [item], TIMEOUT_S, truncation="end")
    return await runtime.classifier.classify(Ref.parse(task), request)


def asker(runtime: Runtime, tasks: Sequence[str], items: Sequence[Item]) -> Ask:
    """Return requests: request n is text n of task n, so that every number of adapters has the same texts."""

    async def ask(number: int) -> int | None:
        await classify(runtime, tasks[number % len(tasks)], items[number % len(items)])
        return 1

    return ask


async def measure_counts(
    runtime: Runtime,
    items: Sequence[Item],
    *,
    numbers: Sequence[int],
    rounds: int,
    seconds: float,
    half_seconds: float,
    done: Callable[[str], None],
) -> dict[Key, Measured]:
    """Measure all numbers and choices per round: saturation, then arrivals at half the rate of the fewest adapters."""
    keys: list[Key] = [(count, choice) for count in numbers for choice in CHOICES]
    asks = {
        (count, choice): asker(runtime, [name(n) for n in draw(count, choice, size=NUM_REQUESTS, seed=count)], items)
        for count, choice in keys
    }
    warm = await closed_loop([asks[numbers[0], "uniform"]] * CLIENTS, seconds=seconds)
    measured = {key: Measured() for key in keys}
    for number in range(rounds):
        arrivals = poisson_arrivals(LOAD_SHARE * warm.rows_per_s, seconds=half_seconds, seed=number)
        first = number * 1_009
        # reverse every other round, so that drift affects few and many alike
        for key in keys if number % 2 == 0 else reversed(keys):
            measured[key].saturated.append(await closed_loop([asks[key]] * CLIENTS, seconds=seconds, first=first))
            measured[key].half.append(await open_loop(asks[key], arrivals, first=first))
            done(f"{key[0]:,} adapters, {key[1]}")
    return measured


def throughput_ratio(measured: dict[Key, Measured], key: Key) -> float:
    """Return rows/s with `count` adapters ÷ rows/s with the fewest, the median over rounds."""
    pairs = zip(measured[key].saturated, measured[_fewest(measured), key[1]].saturated, strict=True)
    return statistics.median(many.rows_per_s / one.rows_per_s for many, one in pairs)


def p99_ratio(measured: dict[Key, Measured], key: Key) -> float:
    """Return the p99 at half load with `count` adapters ÷ the p99 with the fewest, the median over rounds.

    The p99 is not taken over all rounds: a single round on a busy machine would be the whole tail.
    """
    pairs = zip(measured[key].half, measured[_fewest(measured), key[1]].half, strict=True)
    return statistics.median(percentile(many.latencies, 99) / percentile(one.latencies, 99) for many, one in pairs)


def _fewest(measured: dict[Key, Measured]) -> int:
    return min(count for count, _ in measured)
