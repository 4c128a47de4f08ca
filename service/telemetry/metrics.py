"""The server's Prometheus metrics: where they are kept, and how they are scraped.

Every series exists from the start, and no label value comes from a caller. The series are defined in `collectors.py`,
`request_metrics.py` and `tenant_metrics.py`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters import DEFAULT_TENANT
from service.inference.predictions import Classification
from service.periodic import PeriodicTask
from service.telemetry.collectors import FeedbackMetrics, ModelMetrics, RefusalMetrics, RegistryMetrics, ShadowMetrics
from service.telemetry.multiprocess import SharedFolder
from service.telemetry.request_metrics import RequestMetrics, num_in_flight
from service.telemetry.request_record import RequestRecord
from service.telemetry.tenant_metrics import TenantMetrics

_REFRESH_S = 1.0

OverWorkers = Literal["livesum", "livemin", "livemax"]
"""How the values of several live workers are combined."""


class Metrics:
    """All series of one server.

    A single process keeps them in memory. Several workers keep them in a shared folder, and a scrape of any worker
    returns the totals: counters are summed, gauges are combined as each one specifies.
    """

    def __init__(
        self,
        shared: SharedFolder | None = None,
        *,
        is_known_tenant: Callable[[str], bool] = lambda tenant: tenant == DEFAULT_TENANT,
    ) -> None:
        self._own = own = CollectorRegistry()
        self._shared = shared
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self.registry = CollectorRegistry()
        self.registry.register(_Scrape(self._refresh, own.collect if shared is None else shared.collect))
        self.model = ModelMetrics(own)
        self.tenants = TenantMetrics(own, is_known=is_known_tenant)
        self.refusals = RefusalMetrics(own)
        self.registry_calls = RegistryMetrics(own)
        self.shadows = ShadowMetrics(own)
        self.feedback = FeedbackMetrics(own)
        self._requests = RequestMetrics(own)
        self._loop = PeriodicTask("metrics-refresh", self._refresh_gauges, interval_s=_REFRESH_S, call_first=True)

    def register_routes(self, routes: Iterable[str]) -> None:
        """Create the series of every route; called last, once all other series exist."""
        self._requests.register_routes(routes)

    def gauge(
        self,
        name: str,
        text: str,
        read: Callable[[], float],
        *,
        over_workers: OverWorkers = "livesum",
    ) -> None:
        """Register a gauge that is read at each scrape, and every second if another worker may be scraped instead."""
        self._gauges.append((Gauge(name, text, registry=self._own, multiprocess_mode=over_workers), read))

    def families(self, samples: Collection[str]) -> Iterator[Metric]:
        """Collect the families that have samples of these names, over all workers; the others cost nothing.

        Workers keep theirs in files that can only be read as a whole.
        """
        self._refresh()
        if self._shared is None:
            yield from self._own.restricted_registry(samples).collect()
        else:
            yield from (family for family in self._shared.collect() if any(s.name in samples for s in family.samples))

    async def start(self) -> None:
        """Keep the gauges fresh for scrapes of other workers; a single process reads them when it is scraped."""
        if self._shared is not None:
            self._loop.start()

    async def stop(self) -> None:
        """Stop refreshing."""
        await self._loop.stop()

    def request_received(self) -> None:
        """Count an arrival."""
        self._requests.received()

    def request_answered(self, route: str, status: int, seconds: float, record: RequestRecord) -> None:
        """Count a response."""
        self._requests.answered(route, status, seconds)
        self._ended(record, f"{status // 100}xx")

    def request_cancelled(self, route: str, record: RequestRecord) -> None:
        """Count a request whose client hung up."""
        self._requests.cancelled(route)
        self._ended(record, "cancelled")

    def classified(self, answered: Classification) -> None:
        """Count a request's predictions and their cost."""
        self.model.classified(answered)
        self.tenants.classified(answered)

    def _ended(self, record: RequestRecord, outcome: str) -> None:
        if record.tenant is not None:
            self.tenants.ended(record.tenant, outcome)
        if record.error is not None:
            self.refusals.refused(record.error)

    def _refresh(self) -> None:
        for gauge, read in self._gauges:
            gauge.set(read())

    async def _refresh_gauges(self) -> None:
        self._refresh()


class _Scrape(Collector):
    """Collects every series, and derives the number of requests in flight from the others."""

    def __init__(self, refresh: Callable[[], None], read: Callable[[], Iterable[Metric]]) -> None:
        self._refresh, self._read = refresh, read

    def collect(self) -> Iterator[Metric]:
        self._refresh()
        families = list(self._read())
        yield from families
        yield GaugeMetricFamily(
            "superpos_requests_in_flight",
            "Requests that arrived and have not ended",
            value=num_in_flight(families),
        )
