"""Metrics, and traces if a collector is configured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.multiprocess import SharedFolder

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class TelemetryGroup:
    """Metrics and traces."""

    metrics: Metrics
    tracing: "Tracing | None"


def build_telemetry(
    settings: Settings, shared: SharedFolder | None, *, is_known_tenant: Callable[[str], bool]
) -> TelemetryGroup:
    """Build metrics and tracing.

    Args:
        settings: the collector of traces, if there is one
        shared: where metrics are kept if this process is one of several workers
        is_known_tenant: whether a tenant may have a label of its own
    """
    return TelemetryGroup(metrics=Metrics(shared, is_known_tenant=is_known_tenant), tracing=_tracing(settings))


def _tracing(settings: Settings) -> "Tracing | None":
    if settings.otlp_endpoint is None:
        return None
    from service.telemetry.tracing import Tracing  # noqa: PLC0415 - 0.3 s that only traces need

    return Tracing(
        endpoint=settings.otlp_endpoint,
        service_name=settings.otlp_service_name,
        sample_ratio=settings.trace_sample_ratio,
    )
