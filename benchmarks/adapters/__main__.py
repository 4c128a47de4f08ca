"""One adapter or ten thousand: rates, latencies, memory, cold starts and new versions by number of adapters.

In process, through the server's own parts (catalog, adapter cache, SQLite registry, classifier, engine) but without
HTTP, which is the same for any number. All adapters are one bundled prompt, perturbed: other prompts, the same labels
and the same texts, so that only their number differs. Every round measures every number. With `--quick` the most are
1,000, and the figures are named after that.

- `adapters10000_throughput_vs_1`: rows/s of 64 clients over 10,000 adapters ÷ over one, uniform choice. One is the best
  case for anything that caches or groups by adapter.
- `adapters10000_p99_vs_1`: the same of the 99th percentile of latency under Poisson arrivals at half of one adapter's
  saturation rate, from the scheduled arrival; the median of the rounds' ratios.
- `adapter_resident_bytes`: growth of this process's resident memory from one adapter to 10,000, each loaded and in the
  prompt table, per adapter: prompt, trie, template, catalog entry, allocator's slack. A prompt of 10 × 512 float32 has
  20,480.
- `cold_extra_ms`: additional time of the first request for an adapter over the second, in a new server that has the
  adapter in its catalog but has not loaded it; median over many.
- `publish_to_served_ms`: from the start of another process's publication into the registry's file to the first answer
  by it; median. The server polls the registry every quarter of a second.

With `--mixed` the adapters have `words`, `soft` and `pooled` readouts in turn, and the fewest are three, one of each:
`mixed10000_throughput_vs_3` and `mixed10000_p99_vs_3` compare ten thousand with these. Goal: as fast.

Versions are also published under load: the run fails if a request fails.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from adapters.registry.opening import open_registry
from benchmarks.adapters.changes import Swap, cold_extra_s, publish_to_served_s, swap_under_load
from benchmarks.adapters.counts import (
    Key,
    Measured,
    measure_counts,
    p99_ratio,
    throughput_ratio,
)
from benchmarks.adapters.memory import Memory, fill
from benchmarks.common import workload
from benchmarks.common.in_process import in_process
from benchmarks.common.publishing import TASK, name, publisher
from benchmarks.common.report import print_result
from benchmarks.common.schedule import CHOICES
from cli.console import err, print_table

PEERS_PYTHON = Path(".venv-peers/bin/python")


@dataclass(frozen=True, slots=True)
class Plan:
    """Extent of the measurement."""

    counts: Sequence[int]
    """Numbers of adapters, ascending, in addition to the fewest."""
    rounds: int
    seconds: float
    half_seconds: float
    cold: int
    publications: int


FULL = Plan((10, 100, 1_000, 10_000), rounds=6, seconds=4, half_seconds=10, cold=200, publications=30)
QUICK = Plan((1_000,), rounds=2, seconds=1.2, half_seconds=2.5, cold=40, publications=8)
"""Even numbers of rounds: every other round runs in reverse order."""


@dataclass(frozen=True, slots=True)
class Results:
    """All measurements."""

    numbers: Sequence[int]
    """Numbers of adapters, ascending; the fewest are one, or with mixed readouts three, one of each."""
    counts: dict[Key, Measured]
    memory: Memory
    cold_s: Sequence[float]
    served_s: Sequence[float]
    swap: Swap
    source: str


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, up to 1,000 adapters: about a minute.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Adapters of all readouts instead of label words.")] = False,
    most: Annotated[int | None, typer.Option(min=4, help="Measure only this many adapters and the fewest.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw rates and p99 by number of adapters into this SVG file.")
    ] = None,
    plot_python: Annotated[
        Path, typer.Option(help="An interpreter that has matplotlib (`make bench-peers` installs one).")
    ] = PEERS_PYTHON,
) -> None:
    plan = QUICK if quick else FULL
    plan = plan if most is None else replace(plan, counts=(most,))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the publishing process is stopped
    with tempfile.TemporaryDirectory(prefix="superpos-") as folder:
        results = asyncio.run(measure(plan, Path(folder) / "registry.sqlite", mixed=mixed))
    report(results, plan)
    if plot is not None:
        draw_plot(results, plot, plot_python)
    print_result("adapters", figures(results), detail=detail(results, plan))
    if results.swap.failures:
        raise typer.Exit(1)


async def measure(plan: Plan, path: Path, *, mixed: bool = False) -> Results:
    """Run all measurements on a new registry."""
    numbers = (3 if mixed else 1, *plan.counts)
    workload.publish(open_registry(path), name(0), workload.originals()[TASK])
    texts = workload.texts({TASK: workload.originals()[TASK].spec})
    items = texts.items[TASK]
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("publishing", total=None)

        def done(what: str) -> None:
            progress.update(bar, description=what, advance=1)

        async with in_process(path) as runtime, publisher(path, mixed=mixed) as other:
            memory = await fill(runtime, other, items, count=numbers[-1], done=done)
            progress.update(bar, total=plan.rounds * len(numbers) * len(CHOICES), completed=0)
            counts = await measure_counts(
                runtime,
                items,
                numbers=numbers,
                rounds=plan.rounds,
                seconds=plan.seconds,
                half_seconds=plan.half_seconds,
                done=done,
            )
            progress.update(bar, description="new versions", total=None)
            served = [await publish_to_served_s(runtime, other, items[0], i) for i in range(plan.publications)]
            swap = await swap_under_load(runtime, other, items, versions=plan.publications)
        progress.update(bar, description="cold starts")
        async with in_process(path) as runtime:
            cold = await cold_extra_s(runtime, items, first=numbers[-1] // 2, count=plan.cold)
    return Results(numbers, counts, memory, cold, served, swap, texts.source)


def figures(results: Results) -> dict[str, float]:
    """Return the figures that are comparable between runs."""
    fewest, *_, most = results.numbers
    what = "adapters" if fewest == 1 else "mixed"
    return {
        f"{what}{most}_throughput_vs_{fewest}": throughput_ratio(results.counts, (most, "uniform")),
        f"{what}{most}_p99_vs_{fewest}": p99_ratio(results.counts, (most, "uniform")),
        "adapter_resident_bytes": results.memory.bytes_each,
        "cold_extra_ms": statistics.median(results.cold_s) * 1_000,
        "publish_to_served_ms": statistics.median(results.served_s) * 1_000,
    }


def report(results: Results, plan: Plan) -> None:
    """Print the tables."""
    the_fewest = "one's" if results.numbers[0] == 1 else f"those of {results.numbers[0]}"
    columns = ("adapters", *(f"{what} ÷ {the_fewest}, {choice}" for choice in CHOICES for what in ("rows/s", "p99")))
    table = Table(*columns, title="In process, the same texts", caption=f"texts: {results.source}")
    for count in results.numbers:
        keys: list[Key] = [(count, choice) for choice in CHOICES]
        cells = [
            f"{ratio:.2f}"
            for key in keys
            for ratio in (throughput_ratio(results.counts, key), p99_ratio(results.counts, key))
        ]
        table.add_row(f"{count:,}", *cells)
    print_table(table)
    others = Table("what", "value")
    others.add_row("resident memory per adapter, in total", f"{results.memory.bytes_each:,.0f} bytes")
    others.add_row("of which the prompt's own", f"{results.memory.prompt_bytes:,} bytes")
    cold, served = figures(results)["cold_extra_ms"], figures(results)["publish_to_served_ms"]
    others.add_row(f"a cold adapter's first request takes longer by (p50 of {plan.cold})", f"{cold:.2f} ms")
    others.add_row(f"published elsewhere to served (p50 of {plan.publications})", f"{served:.0f} ms")
    swap = results.swap
    others.add_row(f"{swap.versions} versions swapped under load", f"{swap.failures} of {swap.answers} requests failed")
    print_table(others)


def detail(results: Results, plan: Plan) -> dict[str, object]:
    """Return details that explain the figures."""
    return {
        "plan": asdict(plan),
        "texts": results.source,
        "by_count": curves(results),
        "failures": sum(measured.failures for measured in results.counts.values()),
        "memory": asdict(results.memory),
        "swap": asdict(results.swap),
    }


def curves(results: Results) -> dict[str, dict[str, list[float]]]:
    """Return rates and p99 relative to the fewest adapters', by choice, in the order of their numbers."""
    return {
        choice: {
            "adapters": list(results.numbers),
            "throughput_vs_1": [throughput_ratio(results.counts, (count, choice)) for count in results.numbers],
            "p99_vs_1": [p99_ratio(results.counts, (count, choice)) for count in results.numbers],
        }
        for choice in CHOICES
    }


def draw_plot(results: Results, path: Path, python: Path) -> None:
    """Run `benchmarks.common.plot` with an interpreter that has matplotlib."""
    root = Path(__file__).parents[2]
    command = (python.absolute(), root / "benchmarks/common/plot.py", path.absolute())
    subprocess.run(command, input=json.dumps(curves(results)).encode(), check=True, env=without_our_path())


def without_our_path() -> dict[str, str]:
    """Return the environment without the path of our packages."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


if __name__ == "__main__":
    app()
