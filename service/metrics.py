"""Prometheus metrics, on a registry of their own: every series exists from the start, no label is a caller's word."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.classifier import Classification
from service.engine import BatchDone
from service.shared_metrics import SharedFolder

OTHER_ROUTE = "other"
"""Whatever is no route of the API: the documentation, and paths that nothing answers."""
STATUSES = (
    "200",
    "201",
    "204",
    "400",
    "401",
    "403",
    "404",
    "405",
    "409",
    "412",
    "413",
    "415",
    "422",
    "429",
    "500",
    "503",
    "504",
)
_LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STAGE_BUCKETS = (0.0001, 0.0005, 0.001, 0.002, *_LATENCY_BUCKETS)
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS_BUCKETS = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
_REFRESH_S = 1.0
_RECEIVED = "superpos_requests_received"
_ENDED = ("superpos_requests_answered", "superpos_requests_cancelled", "superpos_requests_lost")


class Metrics:
    """All series of one server. received = Σ answered + Σ cancelled + lost + in flight, at any scrape.

    One process keeps its numbers in memory. One of several keeps them in a folder that all share, and a scrape of any
    gives them together: counters summed, gauges as each says.
    """

    _received: Counter

    def __init__(self, shared: SharedFolder | None = None) -> None:
        self._own = registry = CollectorRegistry()
        self._shared = shared
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self.registry = CollectorRegistry()
        self.registry.register(_Scrape(self._refresh, registry.collect if shared is None else shared.collect))
        self._answered = Counter(
            "superpos_requests_answered",
            "Requests that got a response, by status",
            ["route", "status"],
            registry=registry,
        )
        self._cancelled = Counter(
            "superpos_requests_cancelled",
            "Requests whose caller hung up before the response",
            ["route"],
            registry=registry,
        )
        self._lost = Counter(
            "superpos_requests_lost", "Requests whose worker died before the response", registry=registry
        )
        self._seconds = Histogram(
            "superpos_request_duration_seconds",
            "From the request's arrival to its response",
            ["route"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._rows = Counter("superpos_rows", "Rows answered with a prediction", registry=registry)
        self._rows_truncated = Counter(
            "superpos_rows_truncated", "Rows cut to their task's token limit", registry=registry
        )
        self._rows_cached = Counter(
            "superpos_rows_cached", "Rows answered from the result cache, without the model", registry=registry
        )
        self._tokenize_seconds = Histogram(
            "superpos_tokenize_duration_seconds",
            "A classified request's texts to token ids",
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "superpos_queue_duration_seconds",
            "From a classified request's rows in the queue to the begin of its first batch",
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self._batch_rows = Histogram(
            "superpos_batch_rows", "Rows in a model batch", buckets=_ROWS_BUCKETS, registry=registry
        )
        self._batch_tokens = Histogram(
            "superpos_batch_tokens",
            "Tokens in a model batch: prompts, texts, and label trie nodes past the first",
            buckets=_TOKENS_BUCKETS,
            registry=registry,
        )
        self._batch_adapters = Histogram(
            "superpos_batch_adapters",
            "Distinct adapters in a model batch",
            buckets=_ROWS_BUCKETS,
            registry=registry,
        )
        self._trips = Counter(
            "superpos_adapter_trips", "Times that the circuit breaker tripped an adapter", registry=registry
        )
        self._batch_seconds = Histogram(
            "superpos_batch_duration_seconds", "One model batch", buckets=_LATENCY_BUCKETS, registry=registry
        )

    def register_routes(self, routes: list[str]) -> None:
        """Make the series of every route, so that none is absent before traffic."""
        for route in (*routes, OTHER_ROUTE):
            self._cancelled.labels(route)
            self._seconds.labels(route)
            for status in STATUSES:
                self._answered.labels(route, status)
        # made last, it stands last in a worker's file and is read last from it, while that worker goes on counting:
        # no answer is seen whose request is not
        self._received = Counter(_RECEIVED, "Requests that arrived", registry=self._own)
        self._lost.inc(_num_in_flight(self._own.collect()))  # of a worker that died, whose numbers go on here

    def gauge(
        self,
        name: str,
        text: str,
        read: Callable[[], float],
        *,
        over_workers: Literal["livesum", "livemin", "livemax"] = "livesum",
    ) -> None:
        """A gauge that is read when it is scraped, and every second where another worker may be scraped."""
        self._gauges.append((Gauge(name, text, registry=self._own, multiprocess_mode=over_workers), read))

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Keep the gauges fresh for scrapes of other workers; alone there is nothing to do."""
        if self._shared is None:
            yield
            return
        task = asyncio.create_task(self._refresh_always(), name="metrics-refresh")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def request_received(self) -> None:
        """Count an arrival."""
        self._received.inc()

    def request_answered(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._answered.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def request_cancelled(self, route: str) -> None:
        """Count a caller who hung up."""
        self._cancelled.labels(route).inc()

    def classified(self, answered: Classification) -> None:
        """Count a request's predictions, and where its time went."""
        rows = answered.predictions
        self._rows.inc(len(rows))
        self._rows_truncated.inc(sum(row.truncated for row in rows))
        self._rows_cached.inc(sum(row.cached for row in rows))
        self._tokenize_seconds.observe(answered.stages.tokenize_s)
        self._queue_seconds.observe(answered.stages.queue_s)

    def batch_done(self, done: BatchDone) -> None:
        """Count a model batch; called on the model thread."""
        self._batch_rows.observe(done.num_rows)
        self._batch_tokens.observe(done.num_tokens)
        self._batch_adapters.observe(done.num_adapters)
        self._batch_seconds.observe(done.infer_s)
        self._trips.inc(done.num_trips)

    def _refresh(self) -> None:
        for gauge, read in self._gauges:
            gauge.set(read())

    async def _refresh_always(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(_REFRESH_S)


class _Scrape(Collector):
    """What a scrape gives: every series as it is now, and the requests in flight, which follow from the others."""

    def __init__(self, refresh: Callable[[], None], read: Callable[[], Iterable[Metric]]) -> None:
        self._refresh, self._read = refresh, read

    def collect(self) -> Iterator[Metric]:
        self._refresh()
        families = list(self._read())
        yield from families
        yield GaugeMetricFamily(
            "superpos_requests_in_flight",
            "Requests that arrived and have not ended",
            value=_num_in_flight(families),
        )


def _num_in_flight(families: Iterable[Metric]) -> float:
    totals = {
        family.name: sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
        for family in families
        if family.type == "counter"
    }
    return totals[_RECEIVED] - sum(totals[name] for name in _ENDED)
