"""Prometheus series of requests: received, and how each ended. The two add up at every scrape."""

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from service.telemetry.collectors import LATENCY_BUCKETS

OTHER_ROUTE = "other"
"""The label of everything that is not a route of the API: documentation pages and unknown paths."""
STATUSES = (
    *("200", "201", "202", "204", "304"),
    *("400", "401", "403", "404", "405", "406", "408", "409", "412", "413", "415", "421", "422", "428", "429", "431"),
    *("500", "501", "502", "503", "504"),
)
OTHER_STATUS = "other"
"""The label of any status not listed above."""
_RECEIVED = "superpos_requests_received"
_ENDED = ("superpos_requests_answered", "superpos_requests_cancelled", "superpos_requests_lost")


class RequestMetrics:
    """Request counters. At every scrape, received = answered + cancelled + lost + in flight."""

    _received: Counter

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        counter = partial(Counter, registry=registry)
        self._answered = counter("superpos_requests_answered", "Requests with a response", ["route", "status"])
        self._cancelled = counter("superpos_requests_cancelled", "Requests whose client hung up", ["route"])
        self._lost = counter("superpos_requests_lost", "Requests whose worker died before the response")
        self._seconds = Histogram(
            "superpos_request_duration_seconds", "From a request's arrival to its response", ["route"],
            buckets=LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip

    def register_routes(self, routes: Iterable[str]) -> None:
        """Create the series of every route, so that none is absent before traffic."""
        for route in (*routes, OTHER_ROUTE):
            self._cancelled.labels(route)
            self._seconds.labels(route)
            for status in (*STATUSES, OTHER_STATUS):
                self._answered.labels(route, status)
        # created last, so that it is the last entry of a worker's file and is read last while that worker keeps
        # counting: a scrape never sees an answer without its request
        self._received = Counter(_RECEIVED, "Requests that arrived", registry=self._registry)
        self._lost.inc(num_in_flight(self._registry.collect()))  # left by a dead worker whose place this one takes

    def received(self) -> None:
        """Count an arrival."""
        self._received.inc()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        name = str(status)
        self._answered.labels(route, name if name in STATUSES else OTHER_STATUS).inc()
        self._seconds.labels(route).observe(seconds)

    def cancelled(self, route: str) -> None:
        """Count a request whose client hung up."""
        self._cancelled.labels(route).inc()


def num_in_flight(families: Iterable[Metric]) -> float:
    """Return the number of requests that arrived and have not ended, from collected series."""
    totals = {
        family.name: sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
        for family in families
        if family.type == "counter"
    }
    return totals[_RECEIVED] - sum(totals[name] for name in _ENDED)
