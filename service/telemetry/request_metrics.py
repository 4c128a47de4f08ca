"""Requests in numbers: received, and how each ended, so that the two add up at any scrape."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from service.telemetry.collectors import LATENCY_BUCKETS

OTHER_ROUTE = "other"
"""Whatever is no route of the API: the documentation, and paths that nothing answers."""
STATUSES = (
    *("200", "201", "202", "204", "304"),
    *("400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "421", "422", "428", "429", "431"),
    *("500", "501", "502", "503", "504"),
)
OTHER_STATUS = "other"
"""A status that this server is not known to answer with."""
_RECEIVED = "superpos_requests_received"
_ENDED = ("superpos_requests_answered", "superpos_requests_cancelled", "superpos_requests_lost")


class RequestMetrics:
    """received = Σ answered + Σ cancelled + lost + in flight, at any scrape."""

    _received: Counter

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
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
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )

    def register_routes(self, routes: Iterable[str]) -> None:
        """Make the series of every route, so that none is absent before traffic."""
        for route in (*routes, OTHER_ROUTE):
            self._cancelled.labels(route)
            self._seconds.labels(route)
            for status in (*STATUSES, OTHER_STATUS):
                self._answered.labels(route, status)
        # made last, it stands last in a worker's file and is read last from it, while that worker goes on counting:
        # no answer is seen whose request is not
        self._received = Counter(_RECEIVED, "Requests that arrived", registry=self._registry)
        self._lost.inc(num_in_flight(self._registry.collect()))  # of a worker that died, whose numbers go on here

    def received(self) -> None:
        """Count an arrival."""
        self._received.inc()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        name = str(status)
        self._answered.labels(route, name if name in STATUSES else OTHER_STATUS).inc()
        self._seconds.labels(route).observe(seconds)

    def cancelled(self, route: str) -> None:
        """Count a caller who hung up."""
        self._cancelled.labels(route).inc()


def num_in_flight(families: Iterable[Metric]) -> float:
    """Requests that arrived and have not ended, of everything that a registry collects."""
    totals = {
        family.name: sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
        for family in families
        if family.type == "counter"
    }
    return totals[_RECEIVED] - sum(totals[name] for name in _ENDED)
