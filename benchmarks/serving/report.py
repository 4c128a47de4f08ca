"""Report of `benchmarks.serving`: tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rich.table import Table

from benchmarks.common.load import Load
from benchmarks.common.report import print_result
from benchmarks.common.schedule import Choice, percentile
from benchmarks.serving.against_peers import Duel, p99_s
from benchmarks.serving.http_shares import Overhead, Shares
from cli.console import err, print_table


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations of the measurement."""

    rounds: int
    seconds: float
    open_seconds: float
    alone: int
    """Number of requests sent one at a time."""
    peer_rounds: int


@dataclass(slots=True)
class Results:
    """All measurements."""

    shares: Mapping[Choice, Shares]
    half: Mapping[Choice, Load]
    overhead: Overhead
    duels: list[Duel] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    """Peers that are not installed, with reasons."""
    source: str = ""
    """Origin of the texts."""


def report(results: Results, plan: Plan) -> None:
    """Print tables, then the line of JSON."""
    print_table(engine_table(results))
    err.print(f"texts: {results.source}; overhead: latency less {results.overhead.model_time}")
    zipf, half = results.shares["zipf"], results.half["zipf"].latencies
    figures = {
        "http_share_batch8": zipf.share(zipf.batch8),
        "http_share_single": zipf.share(zipf.single),
        "http_overhead_ms_p50": results.overhead.p50_ms,
        "open_loop_p50_ms": percentile(half, 50) * 1_000,
        "open_loop_p99_ms": percentile(half, 99) * 1_000,
    }
    counted = [met.ratio for met in results.duels if met.counts]
    if counted:
        figures["vs_best_peer"] = min(counted)
    if results.duels or results.not_run:
        print_table(peer_table(results))
    print_result("serving", figures, detail=detail(results, plan))


def engine_table(results: Results) -> Table:
    """Print the cost of HTTP relative to the engine."""
    columns = (
        "tasks",
        "8 texts a call ÷ engine",
        "1 text a call ÷ engine",
        "generator, of one core",
        "half load p99 ÷ p50",
    )
    table = Table(*columns, title="Over HTTP, compared with the engine alone")
    for choice, shares in results.shares.items():
        latencies = results.half[choice].latencies
        burnt = max(core_share(shares.batch8), core_share(shares.single))
        spread = percentile(latencies, 99) / percentile(latencies, 50)
        batch8, single = shares.share(shares.batch8), shares.share(shares.single)
        table.add_row(choice, f"{batch8:.2f}", f"{single:.2f}", f"{burnt:.1%}", f"{spread:.1f}×")
    table.caption = f"one request alone pays {results.overhead.p50_ms:.1f} ms in addition to the model"
    return table


def peer_table(results: Results) -> Table:
    """Print the comparison with each peer."""
    columns = (
        "peer",
        "our rows/s ÷ theirs",
        "our clients",
        "our p99 ÷ theirs",
        "same labels",
        "their failures",
        "counts",
    )
    table = Table(*columns, title="Saturated by single texts, our p99 no worse than theirs")
    for met in results.duels:
        failures = sum(load.failures for load in met.theirs)
        p99 = p99_s(met.ours[met.clients]) / met.their_p99_s
        cells = (f"{met.ratio:.2f}×", met.clients, f"{p99:.2f}", f"{met.agreement:.3f}", failures, met.counts)
        table.add_row(met.peer, *map(str, cells))
    for peer, reason in results.not_run.items():
        table.add_row(peer, f"not run: {reason}")
    return table


def core_share(loads: Sequence[Load]) -> float:
    """Return the generator's share of one core."""
    return sum(load.cpu_s for load in loads) / sum(load.wall_s for load in loads)


def detail(results: Results, plan: Plan) -> dict[str, object]:
    """Return details that explain the figures."""
    return {
        "plan": asdict(plan),
        "texts": results.source,
        "model_time": results.overhead.model_time,
        "generator_core_share": {c: [core_share(s.batch8), core_share(s.single)] for c, s in results.shares.items()},
        "shares": {c: [s.share(s.batch8), s.share(s.single)] for c, s in results.shares.items()},
        "half_load_ms": {
            choice: [percentile(load.latencies, share) * 1_000 for share in (50, 99)]
            for choice, load in results.half.items()
        },
        "failures": sum(load.failures for s in results.shares.values() for load in (*s.batch8, *s.single)),
        "peers": {
            met.peer: {
                "ratio": met.ratio,
                "agreement": met.agreement,
                "our_clients": met.clients,
                "p99_s": [p99_s(met.ours[met.clients]), met.their_p99_s],
                "rows_per_s": [load.rows_per_s for load in met.theirs],
            }
            for met in results.duels
        },
        "not_run": results.not_run,
    }
