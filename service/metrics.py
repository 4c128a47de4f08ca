"""Prometheus metrics, on a registry of their own: every series exists from the start, no label is a caller's word."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.classifier import Classification
from service.engine import BatchDone

OTHER_ROUTE = "other"
"""Whatever is no route of the API: the documentation, and paths that nothing answers."""
STATUSES = ("200", "201", "204", "400", "404", "405", "409", "413", "415", "422", "429", "500", "503", "504")
_LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STAGE_BUCKETS = (0.0001, 0.0005, 0.001, 0.002, *_LATENCY_BUCKETS)
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS_BUCKETS = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)


class Metrics:
    """All series of one server. received = Σ answered + Σ cancelled + in flight, at any scrape."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._received = Counter("superpos_requests_received", "Requests that arrived", registry=registry)
        self._in_flight = Gauge(
            "superpos_requests_in_flight", "Requests that arrived and have not ended", registry=registry
        )
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
            "Packed tokens in a model batch, prompts counted",
            buckets=_TOKENS_BUCKETS,
            registry=registry,
        )
        self._batch_adapters = Histogram(
            "superpos_batch_adapters",
            "Distinct adapters in a model batch",
            buckets=_ROWS_BUCKETS,
            registry=registry,
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

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def request_received(self) -> None:
        """Count an arrival."""
        self._received.inc()
        self._in_flight.inc()

    def request_answered(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._in_flight.dec()
        self._answered.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def request_cancelled(self, route: str) -> None:
        """Count a caller who hung up."""
        self._in_flight.dec()
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
