"""Replicas simulated with the server's own scheduler, and real ones to check the simulation by.

- `simulate`: 10 to 1,000 replicas under steady load, bursts, a bulk tenant, new versions, cold adapters and a rollout.
- `autoscaling`: targets of the autoscaler under steady and changing load.
- `check`: real servers on one Redis under an open load, and the simulation of the same requests. It exits with
  status 1 if a percentile of latency differs by more than the tolerance.

A batch takes as long as the coefficients of `superpos size` say: those that come with the package, or a file that
`superpos size --measure` wrote. Times are simulated, so that a busy machine changes nothing; only `check` measures.
"""

import asyncio
import json
import multiprocessing
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from benchmarks.capacity.real_replicas import Comparison, Layout, compare
from benchmarks.capacity.replica import ReplicaModel
from benchmarks.capacity.scenarios import (
    TEXT_TOKENS,
    VIRTUAL_TOKENS,
    Run,
    of_autoscaler,
    of_replicas,
    traffic_at,
)
from benchmarks.capacity.simulation import Result, simulate
from benchmarks.common.report import print_result
from cli.console import err, print_table
from service.settings import Settings
from sizing.coefficients import Coefficients, read, shipped
from sizing.latency import ReplicaCosts, RequestShape, latency
from sizing.measuring import Extent, measure
from sizing.model_timing import BackboneSource

MAX_DIFFERENCE = 0.25
"""Relative difference of a simulated percentile from the measured one that `check` accepts."""

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False, help=__doc__)
CoefficientsOption = Annotated[Path | None, typer.Option(help="A file that `superpos size --measure` wrote.")]
SeedOption = Annotated[int, typer.Option(help="Seed of arrivals, texts and balancing.")]
LoadOption = Annotated[float, typer.Option(min=0.05, max=0.95, help="Share of the capacity.")]
ProcessesOption = Annotated[int, typer.Option(min=1, help="Runs at a time.")]


@app.command("simulate")
def simulate_replicas(
    *,
    replicas: Annotated[str, typer.Option(help="Numbers of replicas, separated by commas.")] = "10,100,1000",
    load: LoadOption = 0.7,
    tasks: Annotated[int, typer.Option(min=1, help="Number of tasks, chosen by Zipf's law.")] = 1_000,
    seconds: Annotated[
        float, typer.Option(min=15, help="Simulated seconds with 10 replicas; fewer with more.")
    ] = 300.0,
    coefficients: CoefficientsOption = None,
    seed: SeedOption = 0,
    processes: ProcessesOption = 1,
) -> None:
    """Run every scenario with each number of replicas: minutes to half an hour on one core."""
    found = _coefficients(coefficients)
    model = _model(found)
    runs: list[tuple[int, Run]] = []
    for number in map(int, replicas.split(",")):
        lasts = max(30.0, seconds * min(1.0, 10 / number))
        each = of_replicas(model, number, load=load, tasks=tasks, seconds=lasts, seed=seed)
        runs += [(number, run) for run in each]
    results = _all([run for _, run in runs], seed, processes)
    table = Table("replicas", "scenario", "p50 ms", "p99 ms", "over 1 s", "refused", "cold", "busy", "queue tokens")
    for (number, run), result in zip(runs, results, strict=True):
        table.add_row(f"{number:,}", run.scenario.name, *_latency_cells(result), f"{result.cold:.1%}",
            f"{result.busy:.0%}", f"{result.queue_tokens:,.0f}")  # fmt: skip
    print_table(table)
    figures = {
        f"{run.scenario.name.replace(' ', '_')}_{number}_p99_ms": 1_000 * result.p99_s
        for (number, run), result in zip(runs, results, strict=True)
    }
    detail = {"load": load, "tasks": tasks, "seed": seed, "origin": found.origin.model_dump(mode="json")}
    print_result("capacity.simulate", figures, detail=detail)


@app.command()
def autoscaling(
    *,
    replicas: Annotated[int, typer.Option(min=2, help="Replicas that have the load without a change.")] = 4,
    load: LoadOption = 0.7,
    seconds: Annotated[float, typer.Option(min=300, help="Simulated seconds per run.")] = 1_800.0,
    coefficients: CoefficientsOption = None,
    seed: SeedOption = 0,
    processes: ProcessesOption = 1,
) -> None:
    """Compare targets of the autoscaler: latency, refusals, and what the replicas cost."""
    found = _coefficients(coefficients)
    model = _model(found)
    traffic = traffic_at(load, 1, model, tasks=1)
    queue_tokens = latency(_costs(model), _shape(), requests_per_s=traffic.requests_per_s).queue_tokens
    runs = list(
        of_autoscaler(model, replicas=replicas, load=load, queue_tokens=queue_tokens, seconds=seconds, seed=seed)
    )
    results = _all([run for *_, run in runs], seed, processes)
    columns = ("target per replica", "change", "p50 ms", "p99 ms", "over 1 s", "refused", "replicas", "needed")
    table = Table(*columns)
    slow: dict[str, list[float]] = defaultdict(list)
    for (name, change, run), result in zip(runs, results, strict=True):
        counts = f"{result.fewest_replicas} to {result.most_replicas}, mean {result.mean_replicas:.1f}"
        table.add_row(name, change, *_latency_cells(result), counts, f"{_needed(run, replicas, seconds):.1f}")
        slow[name].append(result.slow + result.refused)
    print_table(table)
    figures = {f"{name.replace(' ', '_')}_slow_or_refused": statistics.mean(shares) for name, shares in slow.items()}
    detail = {
        "replicas": replicas,
        "load": load,
        "seconds": seconds,
        "seed": seed,
        "capacity_requests_per_s": traffic.requests_per_s / load,
        "runs": [
            {"target": name, "change": change, **asdict(result)}
            for (name, change, _), result in zip(runs, results, strict=True)
        ],
        "origin": found.origin.model_dump(mode="json"),
    }
    print_result("capacity.autoscaling", figures, detail=detail)


@app.command()
def check(
    *,
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of load per step.")] = 60.0,
    loads: Annotated[str, typer.Option(help="Shares of the capacity, separated by commas.")] = "0.3,0.5,0.7,0.85",
    coefficients: Annotated[
        Path | None,
        typer.Option(help="Coefficients of this machine with the threads of one replica. (default: measured now)"),
    ] = None,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart", help="One server on half of the cores, and what sends to it on the others: as on two machines."
        ),
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Accepted relative difference of a percentile.")] = MAX_DIFFERENCE,
    seed: SeedOption = 0,
) -> None:
    """Measure real servers on one Redis, and simulate the same requests: about eight minutes on two idle cores."""
    layout = Layout.apart() if apart else Layout.together()
    found = _measured_now(layout) if coefficients is None else read(coefficients)
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        steps = [float(load) for load in loads.split(",")]
        compared = asyncio.run(compare(Path(folder), found, layout, loads=steps, seconds=seconds, seed=seed))
    print_table(_comparison_table(compared, layout))
    figures = {
        f"{what}_{each.load:g}_simulated_vs_measured": value
        for each in compared
        for what, value in (("p50", each.p50_ratio), ("p99", each.p99_ratio), ("busy", each.busy_ratio))
    }
    detail = {
        "replicas": layout.replicas,
        "threads": layout.threads,
        "apart": apart,
        "seconds": seconds,
        "steps": [asdict(each) for each in compared],
        "coefficients": json.loads(found.model_dump_json()),
    }
    print_result("capacity.check", figures, detail=detail)
    worst = max(abs(ratio - 1) for each in compared for ratio in (each.p50_ratio, each.p99_ratio))
    if worst > tolerance:
        err.print(f"a percentile differs by {worst:.0%}, more than {tolerance:.0%}", style="red")
        raise typer.Exit(1)


def _comparison_table(compared: Sequence[Comparison], layout: Layout) -> Table:
    columns = ("load", "requests", "p50 ms", "simulated", "p99 ms", "simulated", "busy", "simulated", "failed")
    table = Table(*columns, title=f"{layout.replicas} replica{'s' * (layout.replicas > 1)}, measured and simulated")
    for each in compared:
        table.add_row(
            f"{each.load:.0%}", f"{each.requests:,}",
            f"{1_000 * each.p50_s:.0f}", f"{1_000 * each.simulated.p50_s:.0f}",
            f"{1_000 * each.p99_s:.0f}", f"{1_000 * each.simulated.p99_s:.0f}",
            f"{each.busy:.0%}", f"{each.simulated.busy:.0%}", str(each.failures),
        )  # fmt: skip
    return table


def _latency_cells(result: Result) -> tuple[str, str, str, str]:
    refused = result.refused + result.expired
    return f"{1_000 * result.p50_s:,.0f}", f"{1_000 * result.p99_s:,.0f}", f"{result.slow:.1%}", f"{refused:.1%}"


def _all(runs: Sequence[Run], seed: int, processes: int) -> list[Result]:
    """Run scenarios, several at a time; return their results in order."""
    if processes == 1:
        return [simulate(run.scenario, run.model, seed=seed) for run in track(runs, "simulating", console=err)]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(simulate, run.scenario, run.model, seed=seed) for run in runs]
        return [each.result() for each in track(running, "simulating", console=err)]


def _needed(run: Run, replicas: int, seconds: float) -> float:
    """Return the mean number of replicas that would have the load of the beginning at any time."""
    profile = run.scenario.traffic.profile
    edges = [*(time for time in profile.times if time < seconds), seconds]
    spans = [later - earlier for earlier, later in pairwise(edges)]
    return replicas * sum(span * factor for span, factor in zip(spans, profile.factors, strict=False)) / seconds


def _coefficients(path: Path | None) -> Coefficients:
    return shipped() if path is None else read(path)


def _model(found: Coefficients) -> ReplicaModel:
    return ReplicaModel.of(found, "fp32", max(found.threads_of("fp32")))


def _costs(model: ReplicaModel) -> ReplicaCosts:
    return ReplicaCosts(
        batch=model.batch,
        request_s=model.loop_s(1),
        overhead_s=model.overhead_s,
        max_batch_tokens=model.max_batch_tokens,
    )


def _shape() -> RequestShape:
    return RequestShape(rows=1, tokens=TEXT_TOKENS + VIRTUAL_TOKENS, fixed_tokens=VIRTUAL_TOKENS)


def _measured_now(layout: Layout) -> Coefficients:
    """Measure the coefficients of a replica on the servers' cores, as many at once as the cores permit."""
    source = BackboneSource(source="embedded", cache_dir=Settings().cache_dir)
    extent = Extent(precisions=("fp32",), threads=(layout.threads,), adapters=200)
    with layout.serving():
        return measure(source, extent, command="python -m benchmarks.capacity check", say=err.print)


if __name__ == "__main__":
    app()
