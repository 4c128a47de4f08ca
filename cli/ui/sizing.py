"""Display of `superpos size`: the plan, its notes, and coefficients."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from sizing.coefficients import Coefficients
    from sizing.latency import Latency
    from sizing.plan import Plan, Workload

_LARGE_ERROR = 0.25
"""Difference of the fit from a measured batch that is worth a note."""


def plan_table(plan: "Plan", workload: "Workload") -> Table:
    """Make a table of the plan, with the reason for each figure."""
    table = Table("what", "value", "why")
    memory, scaling = plan.memory, plan.autoscaling
    spare = f", {plan.spare} of them spare" if plan.spare else ""
    rows_per_s = plan.capacity * workload.rows
    table.add_row("replicas", f"{plan.replicas:,}{spare}", f"{plan.capacity:,.1f} requests/s each at full load")
    table.add_row(
        "cores", f"{plan.total_cores:,}", f"{plan.cores} per replica, {plan.precision}: {rows_per_s:,.0f} rows/s each"
    )
    table.add_row("load", f"{plan.load:.0%}", f"{plan.load_without_spare:.0%} without the spare replicas")
    table.add_row(
        "latency p50, p99", _latency(plan.all_up), f"{_latency(plan.without_spare)} without the spare replicas"
    )
    table.add_row(
        "memory per replica",
        f"{_size(memory.replica_bytes)}, limit {_size(memory.limit_bytes)}",
        f"server {_size(memory.server_bytes)}, {memory.resident:,} adapters {_size(memory.adapters_bytes)}",
    )
    table.add_row("memory in all", _size(plan.total_bytes), "the limits of all replicas")
    if memory.cold_share:
        table.add_row("cold requests", f"{memory.cold_share:.0%}", "load their adapter first (Zipf's law)")
    table.add_row("registry", _size(memory.registry_bytes), f"{workload.versions} versions of {workload.tasks:,} tasks")
    table.add_row("wait in a full queue", f"{plan.full_queue_s:.1f} s", "max_queue_tokens; then callers get 429")
    table.add_row(
        "autoscaling.queueTokens", f"{scaling.queue_tokens:,}", "queued tokens per replica at the largest load"
    )
    table.add_row("autoscaling.refusalsPerS", f"{scaling.refusals_per_s:g}", "per replica, because of a full queue")
    table.add_row(
        "autoscaling.min/maxReplicas",
        f"{scaling.min_replicas:,} / {scaling.max_replicas:,}",
        "one and the spare / twice the plan",
    )
    for name, value in plan.settings.items():
        table.add_row(f"settings.{name}", f"{value:,}", "the default is too small")
    return table


def plan_notes(plan: "Plan", coefficients: "Coefficients") -> Iterator[str]:
    """Yield the origin of the figures, and what is uncertain about them."""
    origin = coefficients.origin
    yield (
        f"from coefficients of {origin.processor}, {origin.cores} cores, backbone {origin.backbone}, "
        f"{origin.measured_on} ({origin.command})"
    )
    measured = coefficients.threads_of(plan.precision)
    if plan.extrapolated:
        yield f"{plan.cores} cores are extrapolated from {' and '.join(map(str, measured))} by Amdahl's law"
    error = coefficients.batch_time(plan.precision, plan.cores).max_error
    if error > _LARGE_ERROR:
        yield f"some measured batches differ by {error:.0%} from the coefficients: measure again on an idle machine"


def plan_json(plan: "Plan", coefficients: "Coefficients") -> dict[str, object]:
    """Return the plan, the values of the chart, and the origin of the coefficients as JSON."""
    from sizing.plan import chart_values

    return {
        **asdict(plan),
        "total_cores": plan.total_cores,
        "total_bytes": plan.total_bytes,
        "chart": chart_values(plan),
        "origin": coefficients.origin.model_dump(mode="json"),
    }


def coefficients_table(found: "Coefficients") -> Table:
    """Make a table of coefficients."""
    origin = found.origin
    table = Table("coefficient", "value", title=f"{origin.processor}, {origin.cores} cores, {origin.measured_on}")
    for each in found.batches:
        threads = f"{each.threads} thread{'s' * (each.threads > 1)}"
        parts = f"{_ms(each.batch_s)} + {_ms(each.row_s)} per row + {1e6 * each.token_s:,.0f} µs per token"
        table.add_row(f"batch, {each.precision}, {threads}", f"{parts} (fit within {each.max_error:.0%})")
    table.add_row("request, processor time", f"{_ms(found.request_s)} + {_ms(found.request_row_s)} per row")
    table.add_row("request, outside of queue and model", _ms(found.overhead_s))
    table.add_row("start of a server", f"{found.start_s:.1f} s")
    table.add_row("load an adapter", _ms(found.load_adapter_s))
    table.add_row("server", _size(found.server_bytes))
    table.add_row("adapter, in a server", _size(found.adapter_bytes))
    table.add_row("version, in the registry", _size(found.version_bytes))
    return table


def _latency(latency: "Latency") -> str:
    return f"{_ms(latency.p50_s)}, {_ms(latency.p99_s)}"


def _ms(seconds: float) -> str:
    milliseconds = 1_000 * seconds
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def _size(num_bytes: int) -> str:
    """Format bytes with three digits."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if num_bytes >= step:
            return f"{num_bytes / step:.3g} {unit}"
    return f"{num_bytes} bytes"
