"""Gauges of a running server, read at each scrape."""

from collections.abc import Callable

from service.runtime import Runtime
from service.telemetry.metrics import Metrics, OverWorkers


def register_gauges(metrics: Metrics, runtime: Runtime) -> None:
    """Register the gauges that read the runtime's components."""
    tenancy, registry, inference, monitoring = runtime.tenancy, runtime.registry, runtime.inference, runtime.monitoring
    stats, drift, counters = inference.engine.stats, monitoring.drift, monitoring.counters
    # name after the prefix, help, how workers' values are combined, value
    gauges: list[tuple[str, str, OverWorkers, Callable[[], float]]] = [
        ("queue_rows", "Rows admitted and not yet answered", "livesum", lambda: inference.admission.rows),
        ("queue_tokens", "Their packed tokens", "livesum", lambda: inference.admission.tokens),
        ("shadow_queue_rows", "Rows under way to a shadow version", "livesum", lambda: monitoring.shadow.rows),
        ("tasks", "Tasks in the catalog", "livemax", lambda: len(registry.catalog)),
        ("adapters_loaded", "Adapters in host memory", "livesum", lambda: len(registry.adapters)),
        ("adapters_resident", "Adapters in the device's table", "livesum", lambda: stats().resident_adapters),
        ("adapters_tripped", "Adapters refused by the circuit breaker", "livesum", lambda: stats().tripped_adapters),
        ("result_cache_bytes", "Size of the result cache", "livesum", lambda: inference.result_cache.size_bytes),
        ("registry_degraded", "1 while the registry cannot be read", "livemax", lambda: registry.sync.degraded),
        ("registry_lag_seconds", "Time since the last successful poll", "livemax", lambda: registry.sync.lag_s),
        ("registry_position", "Last applied change-log entry", "livemin", lambda: registry.catalog.position),
        ("quotas_degraded", "1 while this process counts quotas alone", "livemax", lambda: tenancy.quotas.degraded),
        ("accounts_degraded", "1 while accounts cannot be read", "livemax", lambda: tenancy.account_cache.degraded),
        ("accounts_age_seconds", "Time since accounts were last read", "livemax", lambda: tenancy.account_cache.age_s),
        # every process sees all replicas' answers, so the gauges of drift are not summed
        ("drift_tasks", "Tasks with enough answers to compare", "livemax", lambda: drift.seen.tasks),
        ("drift_tasks_shifted", "Tasks with an index of 0.25 or more", "livemax", lambda: drift.seen.shifted_tasks),
        ("drift_label_psi_max", "Largest index of labels", "livemax", lambda: drift.seen.worst_label_psi),
        ("drift_confidence_psi_max", "Largest index of scores", "livemax", lambda: drift.seen.worst_confidence_psi),
        ("ledger_waiting", "Counters not yet written to the store", "livesum", lambda: len(counters)),
        (
            "ledger_dropped",
            "Sum of the counts dropped because the buffer was full",
            "livesum",
            lambda: counters.dropped,
        ),
        ("engine_alive", "1 while the model thread runs", "livemin", lambda: stats().alive),
        (
            "last_forward_age_seconds",
            "Time since the last successful forward pass",
            "livemax",
            lambda: stats().last_forward_age_s or 0.0,
        ),
        ("workers", "Worker processes", "livesum", lambda: 1),
    ]
    for name, text, over_workers, read in gauges:
        metrics.gauge(f"superpos_{name}", text, read, over_workers=over_workers)
