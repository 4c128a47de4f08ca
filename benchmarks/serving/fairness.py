"""Effect of a flooding tenant on the latency of a light one, with the real engine in process.

`trickle` sends one row at a time at a constant low rate, first with nothing else in the server (that is what "alone"
means here), then while `flood` offers fifty times as much. Both are open loops: rows are sent when they are due,
whatever has become of those before, and latency counts from when a row was due. The two phases alternate, so that
noise is shared.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import platformdirs
import torch
import typer
from rich.progress import track
from rich.table import Table

from backbone import Backbone, load
from benchmarks.common.report import print_result
from benchmarks.common.workload import originals
from cli.backbone_options import CacheOption, ThreadsOption
from cli.console import err, print_table
from service.catalog.adapter_cache import load_adapter
from service.engine.engine import Engine
from service.engine.types import BatchStats, Row
from service.errors import QueueFull
from service.inference.admission import Admission
from service.settings import Settings

FLOOD_FACTOR = 50
TEXT_TOKENS = (8, 96)
"""Text lengths of both tenants, uniform, as in `benchmarks/engine`; every row also has a prompt of 10 tokens."""
TIMEOUT_S = 60.0
SETTLE_S = 0.5
"""Seconds between the start of the flood and the first row of a flooded phase."""
DEFAULT_BATCH_TOKENS: int = Settings.model_fields["max_batch_tokens"].default


@dataclass(slots=True)
class Sent:
    """Outcome of one tenant's rows in the phases of one kind."""

    latencies_s: list[float] = field(default_factory=list)
    tokens: int = 0
    """Number of packed tokens answered."""
    refused: int = 0
    lasted_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        return 1_000 * float(np.percentile(self.latencies_s, percent))


@dataclass(frozen=True, slots=True)
class Server:
    """Measured part of a server: admission and engine, with rows of the bundled tasks."""

    engine: Engine
    admission: Admission
    rows: Sequence[Row]

    async def send(self, number: int, tenant: str, due: float, sent: Sent) -> None:
        """Send one row as `service/inference/classifier.py` does, and wait for its scores."""
        like = self.rows[number % len(self.rows)]
        row = Row(like.adapter, like.token_ids, due + TIMEOUT_S, tenant)
        try:
            with self.admission.admit(tenant, rows=1, tokens=row.num_tokens):
                await asyncio.wrap_future(self.engine.submit([row])[0])
        except QueueFull:
            sent.refused += 1
            return
        sent.latencies_s.append(time.monotonic() - due)
        sent.tokens += row.num_tokens


def main(
    *,
    rate: Annotated[float, typer.Option(min=0.1, help="Rows per second of trickle; flood offers 50 × this.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Number of alternations of the two phases.")] = 6,
    phase_s: Annotated[float, typer.Option(min=1, help="Seconds per phase.")] = 20.0,
    max_batch_tokens: Annotated[
        int, typer.Option(min=1, help="Token budget of a batch, like SUPERPOS_MAX_BATCH_TOKENS.")
    ] = DEFAULT_BATCH_TOKENS,
    quick: Annotated[bool, typer.Option("--quick", help="The same figures in a minute: 3 rounds of 7 s.")] = False,
    threads: ThreadsOption = None,
    cache_dir: CacheOption = None,
) -> None:
    """Measure the slowdown of a light tenant while another floods the server.

    The main figure is flooded_p99_ratio: trickle's p99 during the flood ÷ its p99 alone. The target is at most 2.

    Example: python -m benchmarks.serving.fairness --quick
    """
    if quick:
        rounds, phase_s = 3, 7.0
    if threads is not None:
        torch.set_num_threads(threads)
    backbone = load("embedded", cache_dir=cache_dir or platformdirs.user_cache_path("superpos"))
    settings = Settings()
    batches: list[BatchStats] = []
    engine = Engine(
        backbone,
        max_batch_tokens=max_batch_tokens,
        prompt_table_bytes=settings.prompt_table_bytes,
        on_batch=batches.append,
    )
    admission = Admission(max_rows=settings.max_queue_rows, max_tokens=settings.max_queue_tokens)
    server = Server(engine, admission, rows_of_bundled_tasks(backbone))
    engine.start()
    try:
        sent = asyncio.run(measure(server, rate=rate, rounds=rounds, phase_s=phase_s))
    finally:
        engine.stop()
    arguments = {"rate": rate, "rounds": rounds, "phase_s": phase_s, "max_batch_tokens": max_batch_tokens}
    report(sent, batches, arguments)


def rows_of_bundled_tasks(backbone: Backbone) -> list[Row]:
    """Make a thousand rows of mixed tasks and lengths, the same in every run."""
    random = np.random.default_rng(0)
    adapters = [load_adapter(adapter, backbone) for adapter in originals().values()]
    return [
        Row(adapters[i % len(adapters)], tuple(random.integers(3, 32_000, random.integers(*TEXT_TOKENS)).tolist()), 0)
        for i in range(1_000)
    ]


async def measure(server: Server, *, rate: float, rounds: int, phase_s: float) -> Mapping[str, Sent]:
    """Alternate the phases; return the outcome of each tenant's rows by phase."""
    alone, flooded, flood = Sent(), Sent(), Sent()
    await asyncio.gather(*(server.send(number, "warm-up", time.monotonic(), Sent()) for number in range(64)))
    for _ in track(range(rounds), "alone and flooded in turn", console=err):
        await offer(server, "trickle", rate, phase_s, alone)
        flooding = asyncio.create_task(offer(server, "flood", FLOOD_FACTOR * rate, SETTLE_S + phase_s, flood))
        await asyncio.sleep(SETTLE_S)
        await offer(server, "trickle", rate, phase_s, flooded)
        await flooding
    return {"alone": alone, "flooded": flooded, "flood": flood}


async def offer(server: Server, tenant: str, rate: float, seconds: float, sent: Sent) -> None:
    """Send rows at a constant rate; cancel the rows that a flood still has queued at its end."""
    started = time.monotonic()
    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(due - time.monotonic())
        task = asyncio.create_task(server.send(number, tenant, due, sent))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    sent.lasted_s += time.monotonic() - started
    if tenant == "flood":
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=tenant == "flood")


def report(sent: Mapping[str, Sent], batches: Sequence[BatchStats], arguments: Mapping[str, object]) -> None:
    """Print the table and the line of JSON."""
    alone, flooded, flood = sent["alone"], sent["flooded"], sent["flood"]
    table = Table("tenant", "rows", "p50 ms", "p99 ms", "rows/s", "tokens/s", "refused", title="Flooded and alone")
    for name, one in (("trickle, alone", alone), ("trickle, flooded", flooded), ("flood", flood)):
        table.add_row(
            name,
            str(len(one.latencies_s)),
            f"{one.percentile_ms(50):.1f}",
            f"{one.percentile_ms(99):.1f}",
            f"{len(one.latencies_s) / one.lasted_s:.1f}",
            f"{one.tokens / one.lasted_s:.0f}",
            str(one.refused),
        )
    print_table(table)
    figures = {
        "alone_p50_ms": alone.percentile_ms(50),
        "alone_p99_ms": alone.percentile_ms(99),
        "flooded_p50_ms": flooded.percentile_ms(50),
        "flooded_p99_ms": flooded.percentile_ms(99),
        "flooded_p50_ratio": flooded.percentile_ms(50) / alone.percentile_ms(50),
        "flooded_p99_ratio": flooded.percentile_ms(99) / alone.percentile_ms(99),
        "flood_rows_per_s": len(flood.latencies_s) / flood.lasted_s,
        "flood_tokens_per_s": flood.tokens / flood.lasted_s,
        "flood_refused": float(flood.refused),
        "trickle_refused": float(flooded.refused + alone.refused),
    }
    longest = max(done.infer_s for done in batches)
    print_result(
        "fairness", figures, detail={**arguments, "samples": len(flooded.latencies_s), "longest_batch_s": longest}
    )


if __name__ == "__main__":
    typer.run(main)
