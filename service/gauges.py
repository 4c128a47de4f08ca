"""Gauges of a running server, read at each scrape."""

from service.runtime import Runtime
from service.telemetry.metrics import Metrics


def register_gauges(metrics: Metrics, runtime: Runtime) -> None:
    """Register the gauges that read the runtime's components."""
    metrics.gauge("superpos_queue_rows", "Rows admitted and not yet answered", lambda: runtime.inference.admission.rows)
    metrics.gauge("superpos_queue_tokens", "Their packed tokens", lambda: runtime.inference.admission.tokens)
    metrics.gauge(
        "superpos_shadow_queue_rows", "Rows under way to a shadow version", lambda: runtime.monitoring.shadow.rows
    )
    metrics.gauge(
        "superpos_tasks", "Tasks in the catalog", lambda: len(runtime.registry.catalog), over_workers="livemax"
    )
    metrics.gauge("superpos_adapters_loaded", "Adapters in host memory", lambda: len(runtime.registry.adapters))
    metrics.gauge(
        "superpos_adapters_resident",
        "Adapters in the prompt table on the device",
        lambda: runtime.inference.engine.stats().resident_adapters,
    )
    metrics.gauge(
        "superpos_result_cache_bytes", "Size of the result cache", lambda: runtime.inference.result_cache.size_bytes
    )
    metrics.gauge(
        "superpos_adapters_tripped",
        "Adapters that the circuit breaker refuses at present",
        lambda: runtime.inference.engine.stats().tripped_adapters,
    )
    metrics.gauge(
        "superpos_registry_degraded",
        "1 while the registry cannot be read",
        lambda: runtime.registry.sync.degraded,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_registry_lag_seconds",
        "Time since the last successful poll of the registry",
        lambda: runtime.registry.sync.lag_s,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_registry_position",
        "Position of the last change-log entry that was applied",
        lambda: runtime.registry.catalog.position,
        over_workers="livemin",
    )
    metrics.gauge(
        "superpos_quotas_degraded",
        "1 while this process counts requests and tokens by itself",
        lambda: runtime.tenancy.quotas.degraded,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_accounts_degraded",
        "1 while tenants and keys cannot be read",
        lambda: runtime.tenancy.account_cache.degraded,
        over_workers="livemax",
    )
    _watch_drift(metrics, runtime)
    metrics.gauge(
        "superpos_ledger_waiting", "Counters not yet written to the store", lambda: len(runtime.monitoring.counters)
    )
    metrics.gauge(
        "superpos_ledger_dropped",
        "Sum of the counts dropped because the buffer was full",
        lambda: runtime.monitoring.counters.dropped,
    )
    metrics.gauge(
        "superpos_engine_alive",
        "1 while the model thread runs",
        lambda: runtime.inference.engine.stats().alive,
        over_workers="livemin",
    )
    metrics.gauge(
        "superpos_last_forward_age_seconds",
        "Time since the last successful forward pass",
        lambda: runtime.inference.engine.stats().last_forward_age_s or 0.0,
        over_workers="livemax",
    )
    metrics.gauge("superpos_workers", "Worker processes", lambda: 1)


def _watch_drift(metrics: Metrics, runtime: Runtime) -> None:
    """Register the gauges of drift: every process sees all replicas' answers, so they are not summed."""
    metrics.gauge(
        "superpos_drift_tasks",
        "Tasks with enough answers in the last hour to compare",
        lambda: runtime.monitoring.drift.seen.tasks,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_drift_tasks_shifted",
        "Tasks whose labels or confidences have a population stability index of 0.25 or more",
        lambda: runtime.monitoring.drift.seen.shifted_tasks,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_drift_label_psi_max",
        "Largest population stability index of a task's labels",
        lambda: runtime.monitoring.drift.seen.worst_label_psi,
        over_workers="livemax",
    )
    metrics.gauge(
        "superpos_drift_confidence_psi_max",
        "Largest population stability index of a task's confidences",
        lambda: runtime.monitoring.drift.seen.worst_confidence_psi,
        over_workers="livemax",
    )
