"""The registry in numbers: how long its calls take, and how many it could not answer."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.buckets import STAGE_BUCKETS
from service.observed_registry import OPERATIONS, RegistryCall


class RegistryMetrics:
    """Calls by operation. `changes` is the poll that the catalog follows by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "superpos_registry_duration_seconds",
            "One call of the registry, by operation",
            ["operation"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "superpos_registry_errors", "Calls that the registry could not answer, by operation", ["operation"],
            registry=registry,
        )  # fmt: skip
        for operation in OPERATIONS:
            self._seconds.labels(operation)
            self._errors.labels(operation)

    def called(self, call: RegistryCall) -> None:
        """Count a call; for any thread."""
        self._seconds.labels(call.operation).observe(call.ended - call.started)
        if call.failed:
            self._errors.labels(call.operation).inc()
