"""Refusals in numbers: what admission turned away, and keys that were not accepted, each by its reason."""

from prometheus_client import CollectorRegistry, Counter

from service.errors import ADMISSION_REASONS, AUTHENTICATION_REASONS, QueueFull, Unauthenticated


class RefusalMetrics:
    """Reasons are the closed sets of `service/errors.py`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._admission = Counter(
            "superpos_admission_refusals", "Requests that were refused for a limit, by reason", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._authentication = Counter(
            "superpos_authentication_failures", "Requests whose key was not accepted, by reason", ["reason"],
            registry=registry,
        )  # fmt: skip
        for reason in ADMISSION_REASONS:
            self._admission.labels(reason)
        for failure in AUTHENTICATION_REASONS:
            self._authentication.labels(failure)

    def refused(self, error: Exception) -> None:
        """Count an error that ended a request, where it is one of these."""
        if isinstance(error, QueueFull):
            self._admission.labels(error.reason).inc()
        elif isinstance(error, Unauthenticated):
            self._authentication.labels(error.reason).inc()
