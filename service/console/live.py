"""The live feed: every two seconds the rates, latencies and queues since the last beat, made once for all who watch."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.samples import Sample

from service.monitoring.live_traffic import TaskKey, TaskTraffic
from service.runtime import Runtime

BEAT_S = 2.0
MAX_WATCHERS = 20
"""Open live pages of a process."""
_KEPT = 60
"""Beats in the charts: two minutes."""
_MAX_TASKS = 12
_ANSWERED = "superpos_requests_answered"
_SECONDS = "superpos_request_duration_seconds"
_BATCH_ROWS, _BATCH_ADAPTERS = "superpos_batch_rows", "superpos_batch_adapters"
_ROWS = "superpos_rows"
_REFUSALS = "superpos_admission_refusals"
_QUEUE_ROWS, _QUEUE_TOKENS = "superpos_queue_rows", "superpos_queue_tokens"
_READ = (
    f"{_ANSWERED}_total",
    f"{_SECONDS}_bucket",
    f"{_BATCH_ROWS}_sum",
    f"{_BATCH_ROWS}_count",
    f"{_BATCH_ADAPTERS}_sum",
    f"{_ROWS}_total",
    f"{_REFUSALS}_total",
    _QUEUE_ROWS,
    _QUEUE_TOKENS,
)
_UNCOUNTED = ("/healthz", "/metrics", "/console")
"""Routes that are not the callers' requests."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The server's counters at one moment."""

    at: float
    answered: Mapping[str, float]
    """Requests by class of their status, such as `2xx`."""
    buckets: Mapping[float, float]
    """Requests by the upper bound of their duration in seconds; cumulative."""
    rows: float
    batches: float
    batch_rows: float
    batch_adapters: float
    refusals: Mapping[str, float]
    queue_rows: float
    queue_tokens: float
    by_task: Mapping[TaskKey, TaskTraffic]


@dataclass(frozen=True, slots=True)
class TaskRate:
    """One task since the last beat, in the process that sends the feed."""

    tenant: str
    task: str
    requests_per_s: float
    rows_per_s: float
    errors_per_s: float
    queue_ms: float | None
    """Mean wait for the model; None without an answer."""
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class Beat:
    """Rates, latencies and queues since the last beat, over all workers."""

    at: datetime
    requests_per_s: float
    rows_per_s: float
    errors_per_s: float
    """Requests that ended with a status of 500 or more."""
    refused_per_s: float
    """Requests that ended with another status of 400 or more."""
    latencies_ms: Mapping[str, float | None]
    """Upper bounds by quantile, from the histogram's buckets; None without a request."""
    rows_per_batch: float | None
    tasks_per_batch: float | None
    refusals: Mapping[str, float]
    """Refused requests by reason, since the last beat."""
    queue_rows: float
    queue_tokens: float
    tasks: Sequence[TaskRate]
    """The busiest first."""


class LiveFeed:
    """Makes a beat every two seconds while a page is open. Belongs to the event loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self.number = 0
        """Number of the latest beat."""
        self.beats: deque[Beat] = deque(maxlen=_KEPT)
        """Beats since a page was opened, the latest last."""

    @property
    def is_full(self) -> bool:
        """Whether as many pages are open as this process serves."""
        return self._watchers >= MAX_WATCHERS

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Make beats for the time of the block."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live-feed")
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._task.cancel()
                self._task = None
                self.beats.clear()

    async def _run(self) -> None:
        with self._runtime.monitoring.live.watched():
            before = await self._totals()
            while True:
                await asyncio.sleep(BEAT_S)
                now = await self._totals()
                self.beats.append(beat_between(before, now))
                before = now
                self.number += 1

    async def _totals(self) -> Totals:
        """Read the counters of all workers, in pieces between which requests are served."""
        found: dict[str, list[Sample]] = {}
        for family in self._runtime.telemetry.metrics.families(_READ):
            found[family.name] = family.samples
            await asyncio.sleep(0)
        return totals_of(found, at=time.monotonic(), by_task=self._runtime.monitoring.live.sums())


def totals_of(found: Mapping[str, Iterable[Sample]], *, at: float, by_task: Mapping[TaskKey, TaskTraffic]) -> Totals:
    """Return the totals in collected samples, by family."""
    answered: dict[str, float] = {}
    for sample in found[_ANSWERED]:
        if sample.name.endswith("_total") and not sample.labels["route"].startswith(_UNCOUNTED):
            group = f"{sample.labels['status'][0]}xx"
            answered[group] = answered.get(group, 0.0) + sample.value
    buckets: dict[float, float] = {}
    for sample in found[_SECONDS]:
        if sample.name.endswith("_bucket") and not sample.labels["route"].startswith(_UNCOUNTED):
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return Totals(
        at=at,
        answered=answered,
        buckets=buckets,
        rows=_sum(found[_ROWS], "_total"),
        batches=_sum(found[_BATCH_ROWS], "_count"),
        batch_rows=_sum(found[_BATCH_ROWS], "_sum"),
        batch_adapters=_sum(found[_BATCH_ADAPTERS], "_sum"),
        refusals={each.labels["reason"]: each.value for each in found[_REFUSALS] if each.name.endswith("_total")},
        queue_rows=_sum(found[_QUEUE_ROWS], ""),
        queue_tokens=_sum(found[_QUEUE_TOKENS], ""),
        by_task=by_task,
    )


def beat_between(before: Totals, now: Totals) -> Beat:
    """Return what happened between two moments. Pure."""
    seconds = max(now.at - before.at, 1e-3)
    groups = {name: max(0.0, value - before.answered.get(name, 0.0)) for name, value in now.answered.items()}
    counts = {bound: max(0.0, value - before.buckets.get(bound, 0.0)) for bound, value in now.buckets.items()}
    batches = now.batches - before.batches
    refusals = {reason: value - before.refusals.get(reason, 0.0) for reason, value in now.refusals.items()}
    tasks = [
        _rate(key, before.by_task.get(key, TaskTraffic()), traffic, seconds) for key, traffic in now.by_task.items()
    ]
    return Beat(
        at=datetime.now(UTC),
        requests_per_s=sum(groups.values()) / seconds,
        rows_per_s=max(0.0, now.rows - before.rows) / seconds,
        errors_per_s=groups.get("5xx", 0.0) / seconds,
        refused_per_s=groups.get("4xx", 0.0) / seconds,
        latencies_ms={f"p{percent}": quantile_ms(counts, percent / 100) for percent in (50, 95, 99)},
        rows_per_batch=(now.batch_rows - before.batch_rows) / batches if batches > 0 else None,
        tasks_per_batch=(now.batch_adapters - before.batch_adapters) / batches if batches > 0 else None,
        refusals={reason: count for reason, count in refusals.items() if count > 0},
        queue_rows=now.queue_rows,
        queue_tokens=now.queue_tokens,
        tasks=sorted((each for each in tasks if each.requests_per_s), key=lambda each: -each.rows_per_s)[:_MAX_TASKS],
    )


def quantile_ms(counts: Mapping[float, float], share: float) -> float | None:
    """Return the upper bound of the bucket that has a quantile; the last finite bound if it is in none.

    Args:
        counts: cumulative counts by upper bound in seconds
        share: of the requests, 0 to 1
    """
    total = counts.get(math.inf, 0.0)
    if not total:
        return None
    bounds = sorted(counts)
    found = next(bound for bound in bounds if counts[bound] >= share * total)
    return 1_000 * (found if math.isfinite(found) else bounds[-2])


def _sum(samples: Iterable[Sample], end: str) -> float:
    return sum(sample.value for sample in samples if sample.name.endswith(end))


def _rate(key: TaskKey, before: TaskTraffic, now: TaskTraffic, seconds: float) -> TaskRate:
    requests, errors = now.requests - before.requests, now.errors - before.errors
    answered = requests - errors
    return TaskRate(
        tenant=key[0],
        task=key[1],
        requests_per_s=requests / seconds,
        rows_per_s=(now.rows - before.rows) / seconds,
        errors_per_s=errors / seconds,
        queue_ms=1_000 * (now.queue_s - before.queue_s) / answered if answered else None,
        total_ms=1_000 * (now.total_s - before.total_s) / answered if answered else None,
    )
