"""Schedules of requests: Zipf and uniform task choice, Poisson arrivals, percentiles. Pure and seeded."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Choice = Literal["zipf", "uniform"]
CHOICES: tuple[Choice, ...] = ("zipf", "uniform")
ZIPF_EXPONENT = 1.0


def popularity(count: int, choice: Choice) -> NDArray[np.float64]:
    """Return the probability of each of `count` tasks, most popular first; the sum is 1.

    `zipf` is 1 / rank: of 100 tasks the first gets 19 % of the requests, of 10,000 it gets 10 %.
    """
    weights = np.ones(count) if choice == "uniform" else np.arange(1, count + 1, dtype=np.float64) ** -ZIPF_EXPONENT
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def draw(count: int, choice: Choice, *, size: int, seed: int) -> list[int]:
    """Draw the tasks of `size` consecutive requests, and which tasks are popular."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(count)
    drawn: list[int] = names[rng.choice(count, size=size, p=popularity(count, choice))].tolist()
    return drawn


def poisson_arrivals(rate: float, *, seconds: float, seed: int) -> list[float]:
    """Draw arrival times from 0 to `seconds` of independent callers, `rate` per second on average."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=int(rate * seconds * 2) + 50)
    times = np.cumsum(gaps)
    arrivals: list[float] = times[times < seconds].tolist()
    return arrivals


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` percent of all values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values to take a percentile of")
    ordered = sorted(values)
    rank = int(np.ceil(share / 100 * len(ordered)))
    return ordered[max(rank, 1) - 1]
