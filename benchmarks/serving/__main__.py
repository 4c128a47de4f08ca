"""Real server process under load over HTTP: cost of HTTP relative to the engine, latency at half load, and the peers.

`superpos serve` runs as a separate process with a hundred tasks (the bundled prompts, perturbed) in a temporary
registry; this process is the load generator and holds a second engine, so that both alternate on the same rows.
Times hold for one machine only; the figures are ratios of variants that alternated within the run.

- `http_share_batch8`: rows/s over HTTP (16 clients, 8 texts per call) ÷ rows/s of the engine alone: in process,
  tokenized beforehand, with the same number of outstanding rows. The generator runs on the same cores: its processor
  time is printed with the share, and the share is of wall time that includes it.
- `http_share_single`: the same with 64 clients that send one text per call.
- `http_overhead_ms_p50`: with one request at a time, its latency less the model's time in it (`infer` of the server's
  Server-Timing; without it, less the engine's own time for the same row).
- `open_loop_p50_ms`, `open_loop_p99_ms`: Poisson arrivals of single texts at half the saturation rate, Zipf tasks; each
  latency from the *scheduled* arrival. They hold for one machine.
- `vs_best_peer` (with --peers): our rows/s ÷ a peer's, both saturated by single texts of Zipf tasks, alternately.
  The peer has 64 clients, which fill its batches; we have the largest number of 64, 32 and 16 that keeps our p99 at or
  below the peer's. The lowest ratio over the peers is the figure: the best peer's. A peer counts if it failed no
  request and at least 98 % of a sample's labels are ours too.
"""

import asyncio
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from adapters import PromptAdapter
from adapters.files import to_files, write_folder
from adapters.registry.opening import open_registry
from backbone import embedded
from benchmarks.common import workload
from benchmarks.common.in_process import in_process
from benchmarks.common.schedule import CHOICES, Choice, draw
from benchmarks.common.server_process import (
    NUM_PEERS,
    DoesNotAnswer,
    Question,
    Server,
    missing,
    peer_servers,
    started,
    superpos_server,
    until_it_answers,
)
from benchmarks.serving.against_peers import duel, steps_of_a_duel
from benchmarks.serving.http_shares import BATCH_TEXTS, Bench, Shares, bench_of, half_load, overhead, saturate
from benchmarks.serving.report import Plan, Results, report
from cli.console import err
from service.settings import Settings

NUM_TASKS = 100
NUM_REQUESTS = 1_000
"""Number of prepared requests of each kind; they repeat in this order."""
STRIDE = 331
"""Offset of each round in the requests."""
PEERS_PYTHON = Path(".venv-peers/bin/python")

Done = Callable[[str], Callable[[], None]]


FULL = Plan(rounds=7, seconds=6, open_seconds=60, alone=200, peer_rounds=5)
QUICK = Plan(rounds=3, seconds=3, open_seconds=6, alone=40, peer_rounds=2)


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter rounds, same figures: about two minutes.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Compare with the peers too; `make bench-peers` installs them.")
    ] = False,
    peers_python: Annotated[Path, typer.Option(help="Interpreter of the peers' environment.")] = PEERS_PYTHON,
) -> None:
    plan = QUICK if quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        results = asyncio.run(measure(plan, Path(folder), peers_python.absolute() if peers else None))
    report(results, plan)


async def measure(plan: Plan, folder: Path, peers_python: Path | None) -> Results:
    """Set everything up, measure, and stop everything."""
    adapters = workload.mixed_adapters(NUM_TASKS)
    path = folder / "registry.sqlite"
    registry = open_registry(path)
    for task, adapter in adapters.items():
        workload.publish(registry, task, adapter)
    texts = workload.texts({task: adapter.spec for task, adapter in workload.originals().items()})
    by_eights = {choice: questions(adapters, texts, choice, size=BATCH_TEXTS) for choice in CHOICES}
    ours, log = superpos_server(path), folder / "superpos.log"
    with started(ours, log=log) as url, Progress(console=err, transient=True) as progress:
        bar = progress.add_task("starting the server", total=steps(plan, peers=peers_python is not None))

        def done(what: str) -> Callable[[], None]:
            return lambda: progress.update(bar, description=what, advance=1)

        await until_it_answers(url, ours.call(url, by_eights["uniform"][0]), log=log)
        async with in_process(path) as runtime:
            benches = {choice: await bench_of(url, ours, runtime, by_eights[choice]) for choice in CHOICES}
            results = await against_engine(plan, benches, done)
        results.source = texts.source
        if peers_python:
            write_backbone_and_adapters(folder, adapters)
            singles = questions(adapters, texts, "zipf", size=1)
            peers = peer_servers(
                peers_python, backbone=folder / "backbone", adapters=folder / "adapters", scratch=folder
            )
            for peer in peers:
                await against_peer(plan, results, peer, (ours, url), singles, log=folder / "peer.log", done=done)
    return results


def questions(
    adapters: Mapping[str, PromptAdapter], texts: workload.Texts, choice: Choice, *, size: int
) -> list[Question]:
    """Draw the sequence of tasks and texts."""
    names, turns = list(adapters), {task: cycle(items) for task, items in texts.items.items()}
    asked = []
    for number in draw(len(names), choice, size=NUM_REQUESTS, seed=size):
        items = tuple(islice(turns[workload.original(names[number])], size))
        spec = adapters[names[number]].spec
        asked.append(Question(names[number], items, tuple(map(spec.render, items)), spec.max_tokens))
    return asked


async def against_engine(plan: Plan, benches: Mapping[Choice, Bench], done: Done) -> Results:
    """Measure shares of the engine's rate, single requests, and half load."""
    shares = {choice: Shares() for choice in CHOICES}
    for bench in benches.values():
        await saturate(bench, Shares(), seconds=1, first=0, done=done("warming up"))
    for number in range(plan.rounds):
        for choice, bench in benches.items():
            say = done(f"engine, 8 texts a call, 1 text a call: {choice}")
            await saturate(bench, shares[choice], seconds=plan.seconds, first=number * STRIDE, done=say)
    alone = await overhead(benches["uniform"], count=plan.alone, done=done("one request at a time"))
    half = {}
    for choice, bench in benches.items():
        rate = statistics.median(load.rows_per_s for load in shares[choice].single)
        half[choice] = await half_load(bench, rate, seconds=plan.open_seconds, seed=7)
        done(f"half load: {choice}")()
    return Results(shares, half, alone)


async def against_peer(
    plan: Plan,
    results: Results,
    peer: Server,
    ours: tuple[Server, str],
    asked: Sequence[Question],
    *,
    log: Path,
    done: Done,
) -> None:
    """Compare with one peer, if it is installed."""
    reason = missing(peer)
    if reason:
        results.not_run[peer.name] = reason
        return
    say, seconds = done(peer.name), plan.seconds
    try:
        met = await duel(peer, *ours, asked, rounds=plan.peer_rounds, seconds=seconds, log=log, done=say)
        results.duels.append(met)
    except DoesNotAnswer as exc:
        results.not_run[peer.name] = str(exc)


def write_backbone_and_adapters(folder: Path, adapters: Mapping[str, PromptAdapter]) -> None:
    """Write the peers' input: the embedded backbone in `transformers`' format, and every adapter as a PEFT folder."""
    (folder / "backbone").symlink_to(embedded.prepare(Settings().cache_dir, lambda line: None))
    for task, adapter in adapters.items():
        write_folder(folder / "adapters" / task, to_files(adapter))


def steps(plan: Plan, *, peers: bool) -> int:
    """Return the number of progress reports of `measure`, with every peer installed."""
    engine = len(CHOICES) * (3 * (plan.rounds + 1) + 1) + plan.alone
    return engine + (NUM_PEERS * steps_of_a_duel(plan.peer_rounds) if peers else 0)


if __name__ == "__main__":
    app()
