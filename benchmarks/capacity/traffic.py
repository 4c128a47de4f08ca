"""Traffic of a simulation: independent callers, a rate that changes, popular and rare tasks, and a bulk tenant."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.common.schedule import popularity

BULK_TENANT = "bulk"
BULK_ROWS = 64
"""Rows per request of the bulk tenant, as `superpos score` sends them."""
_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request."""

    at: float
    """Seconds since the beginning."""
    task: int
    tenant: str
    texts: tuple[int, ...]
    """Tokens of each text, without the prompt."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The rate over time, relative to the mean: `factors[i]` from `times[i]` on."""

    times: tuple[float, ...] = (0.0,)
    factors: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        assert len(self.times) == len(self.factors)
        assert self.times[0] == 0.0
        assert list(self.times) == sorted(self.times)

    def at(self, seconds: float) -> float:
        """Return the factor at a time."""
        return self.factors[bisect_right(self.times, seconds) - 1]


def step(at_s: float, factor: float) -> Profile:
    """Return a rate that changes once."""
    return Profile((0.0, at_s), (1.0, factor))


def ramp(from_s: float, to_s: float, factor: float, *, steps: int = 30) -> Profile:
    """Return a rate that rises or falls evenly to `factor`."""
    parts = np.arange(1, steps + 1) / steps
    times = np.linspace(from_s, to_s, steps, endpoint=False)
    return Profile((0.0, *times.tolist()), (1.0, *(1 + (factor - 1) * parts).tolist()))


def bursts(*, every_s: float, lasts_s: float, factor: float, seconds: float, seed: int) -> Profile:
    """Return a rate that is `factor` in bursts whose lengths and distances are exponential, and 1 between them."""
    random = np.random.default_rng(seed)
    times, factors, now = [0.0], [1.0], 0.0
    while now < seconds:
        begins = now + random.exponential(every_s)
        now = begins + random.exponential(lasts_s)
        times += [begins, now]
        factors += [factor, 1.0]
    return Profile(tuple(times), tuple(factors))


def uniform_lengths(mean: int) -> tuple[int, ...]:
    """Return text lengths from 1 token to twice the mean."""
    return tuple(range(1, 2 * mean))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of independent callers."""

    requests_per_s: float
    """Where the profile is 1; without the bulk tenant's."""
    tasks: int
    """Chosen by Zipf's law with exponent 1."""
    lengths: tuple[int, ...]
    """Text lengths in tokens, each as likely as the others."""
    rows: int = 1
    tenants: int = 100
    """Owners of the tasks, in turn."""
    bulk_share: float = 0.0
    """Share of all rows that one more tenant sends, in requests of `BULK_ROWS`."""
    profile: Profile = Profile()

    @property
    def text_tokens(self) -> float:
        """Mean tokens of a text."""
        return sum(self.lengths) / len(self.lengths)

    def arrivals(self, *, seconds: float, seed: int) -> Iterator[Arrival]:
        """Draw the requests from 0 to `seconds` in their order; the same seed draws the same."""
        random = np.random.default_rng(seed)
        interactive_rows_per_s = self.requests_per_s * self.rows
        bulk_per_s = interactive_rows_per_s * self.bulk_share / (1 - self.bulk_share) / BULK_ROWS
        most = max(self.profile.factors) * (self.requests_per_s + bulk_per_s)
        chosen, lengths = popularity(self.tasks, "zipf"), np.array(self.lengths)
        now = 0.0
        while True:
            at = now + np.cumsum(random.exponential(1 / most, _CHUNK))
            kept = random.random(_CHUNK) * max(self.profile.factors)
            bulk = random.random(_CHUNK) < bulk_per_s / (self.requests_per_s + bulk_per_s)
            tasks = random.choice(self.tasks, _CHUNK, p=chosen)
            for when, threshold, is_bulk, task in zip(
                at.tolist(), kept.tolist(), bulk.tolist(), tasks.tolist(), strict=True
            ):
                if when >= seconds:
                    return
                if threshold < self.profile.at(when):
                    texts = tuple(random.choice(lengths, BULK_ROWS if is_bulk else self.rows).tolist())
                    yield Arrival(when, task, BULK_TENANT if is_bulk else f"tenant-{task % self.tenants}", texts)
            now = float(at[-1])
