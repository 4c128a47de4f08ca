"""Prometheus series by tenant. Only known tenants have a label of their own, and at most a hundred of them."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter

from adapters import DEFAULT_TENANT
from service.inference.predictions import Classification

MAX_TENANTS = 100
OTHER_TENANT = "other"
"""The label of tenants past the first hundred, and of unknown ones."""
OUTCOMES = ("2xx", "3xx", "4xx", "5xx", "cancelled")


class TenantMetrics:
    """Series of requests whose tenant is known; a refused key belongs to no tenant."""

    def __init__(
        self, registry: CollectorRegistry, *, is_known: Callable[[str], bool] = lambda tenant: tenant == DEFAULT_TENANT
    ) -> None:
        """Register the series.

        Args:
            registry: where they are kept
            is_known: whether a tenant exists; called for each tenant without a label
        """
        counter = partial(Counter, registry=registry)
        self._requests = counter("superpos_tenant_requests", "Requests that ended, by outcome", ["tenant", "status"])
        self._rows = counter("superpos_tenant_rows", "Rows answered with a prediction", ["tenant"])
        self._tokens = counter("superpos_tenant_tokens", "Packed tokens run through the model", ["tenant"])
        self._queue_seconds = counter("superpos_tenant_queue_seconds", "Queueing time of answered requests", ["tenant"])
        self._is_known = is_known
        self._labels: dict[str, str] = {}
        for label in (DEFAULT_TENANT, OTHER_TENANT):
            self._register(label)

    def ended(self, tenant: str, outcome: str) -> None:
        """Count a tenant's request; `outcome` is one of `OUTCOMES`."""
        self._requests.labels(self._label(tenant), outcome).inc()

    def classified(self, answered: Classification) -> None:
        """Count the rows, tokens and queue time of an answered request."""
        label = self._label(answered.tenant)
        self._rows.labels(label).inc(len(answered.predictions))
        self._tokens.labels(label).inc(answered.stages.packed_tokens)
        self._queue_seconds.labels(label).inc(answered.stages.queue_s)

    def _label(self, tenant: str) -> str:
        label = self._labels.get(tenant)
        if label is not None:
            return label
        if len(self._labels) >= MAX_TENANTS + 1 or not self._is_known(tenant):  # "other" is one of the labels
            return OTHER_TENANT
        return self._register(tenant)

    def _register(self, label: str) -> str:
        for outcome in OUTCOMES:
            self._requests.labels(label, outcome)
        for series in (self._rows, self._tokens, self._queue_seconds):
            series.labels(label)
        self._labels[label] = label
        return label
