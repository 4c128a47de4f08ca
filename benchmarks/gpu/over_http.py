"""Rows per second over HTTP ÷ those of the engine alone, as `benchmarks.serving` measures it, with both on the device.

The server process and this one's engine hold a copy of the weights each and alternate.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.in_process import in_process
from benchmarks.common.server_process import started, superpos_server, until_it_answers
from benchmarks.gpu.part import Measured, Setup, run_part
from benchmarks.serving.__main__ import STRIDE, questions
from benchmarks.serving.http_shares import BATCH_TEXTS, Shares, bench_of, saturate
from cli.console import print_table

NUM_TASKS, QUICK_NUM_TASKS = 100, 4
QUICK_REQUESTS = 20
ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, QUICK_SECONDS = 5.0, 0.5
"""Length of each period of load: three in a round."""


def measure(setup: Setup) -> Measured:
    """Return rates and shares."""
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        shares = asyncio.run(_shares(setup, Path(folder)))
    rates = {
        "engine": statistics.median(shares.engine),
        "batch8": statistics.median(load.rows_per_s for load in shares.batch8),
        "single": statistics.median(load.rows_per_s for load in shares.single),
    }
    by_share = {"batch8": shares.share(shares.batch8), "single": shares.share(shares.single)}
    table = Table("", "rows/s", "÷ engine")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.0f}", f"{by_share.get(name, 1.0):.3f}")
    print_table(table)
    failures = sum(load.failures for load in (*shares.batch8, *shares.single))
    return Measured(
        figures={f"{name}_rows_per_s": rate for name, rate in rates.items()}
        | {f"share_{name}": share for name, share in by_share.items()}
        | {"failures": failures},
        detail={"precision": setup.precision},
    )


async def _shares(setup: Setup, folder: Path) -> Shares:
    adapters = workload.mixed_adapters(QUICK_NUM_TASKS if setup.quick else NUM_TASKS)
    path = folder / "registry.sqlite"
    registry = open_registry(path)
    for task, adapter in adapters.items():
        workload.publish(registry, task, adapter)
    texts = workload.texts({task: adapter.spec for task, adapter in workload.originals().items()})
    asked = questions(adapters, texts, "zipf", size=BATCH_TEXTS)[: QUICK_REQUESTS if setup.quick else None]
    server, log = superpos_server(path), folder / "superpos.log"
    seconds = QUICK_SECONDS if setup.quick else SECONDS
    shares = Shares()
    with started(server, log=log) as url:
        await until_it_answers(url, server.call(url, asked[0]), log=log)
        async with in_process(path) as runtime:
            bench = await bench_of(url, server, runtime, asked)
            if not setup.quick:
                await saturate(bench, Shares(), seconds=1.0, first=0, done=lambda: None)
            for number in range(QUICK_ROUNDS if setup.quick else ROUNDS):
                await saturate(bench, shares, seconds=seconds, first=number * STRIDE, done=lambda: None)
    return shares


if __name__ == "__main__":
    run_part(measure)
