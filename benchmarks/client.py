"""The Python client's `classify_many` compared with the server's own rate, on the same rows and requests.

`superpos serve` runs as a separate process with the bundled `sst2`. Its own rate is what the load generator of the
serving benchmarks gets from it, which sends prepared bytes and parses nothing. All of them alternate within the run, on
the cores of the server.

- `client_share_sync`, `client_share_async`: rows/s of `Client` and `AsyncClient` ÷ the server's own, each with 8
  requests of 64 rows at a time; median over rounds. The goal is 0.95.
- `client_cpu_us_per_row_sync`, `…_async`: processor time of this process per row, which the server lacks.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer

from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.http_load import Call, closed_loop
from benchmarks.common.report import print_result
from benchmarks.common.server_process import Question, started, superpos_server, until_it_answers
from superpos_client import AsyncClient, Client

TASK = "sst2"
CHUNK, CONCURRENCY = 64, 8
GOAL = 0.95

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(quick: Annotated[bool, typer.Option("--quick", help="Shorter rounds, same figures.")] = False) -> None:
    rounds, seconds = (2, 2.0) if quick else (7, 8.0)
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        folder = Path(name)
        registry = folder / "registry.sqlite"
        adapter = workload.originals()[TASK]
        workload.publish(open_registry(registry), TASK, adapter)
        items = list(workload.texts({TASK: adapter.spec}).items[TASK])
        ours, log = superpos_server(registry), folder / "superpos.log"
        with started(ours, log=log) as url:
            calls = [ours.call(url, question) for question in _questions(items)]
            asyncio.run(until_it_answers(url, calls[0], log=log))
            report(measure(url, calls, items, rounds=rounds, seconds=seconds))


def measure(
    url: str, calls: Sequence[Call], items: Sequence[workload.Item], *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Return rows/s of each round and processor µs per row, by who asked."""
    found: dict[str, list[float]] = {"server": [], "sync": [], "async": [], "cpu_sync": [], "cpu_async": []}
    for number in range(-1, rounds):  # the first warms up
        load = closed_loop(url, calls, clients=CONCURRENCY, seconds=seconds if number >= 0 else 1)
        own = asyncio.run(load).rows_per_s
        rows = int(own * seconds) if number >= 0 else CHUNK * CONCURRENCY
        plain, other = with_threads(url, items, rows), asyncio.run(with_async(url, items, rows))
        if number >= 0:
            found["server"].append(own)
            for kind, (wall_s, cpu_s) in (("sync", plain), ("async", other)):
                found[kind].append(rows / wall_s)
                found[f"cpu_{kind}"].append(1e6 * cpu_s / rows)
    return found


def with_threads(url: str, items: Sequence[workload.Item], rows: int) -> tuple[float, float]:
    """Return wall and processor seconds of `Client.classify_many`."""
    with Client(url) as client:
        client.classify(TASK, items[0])
        began, cpu = time.perf_counter(), time.process_time()
        outcomes = client.classify_many(TASK, _rows(items, rows), truncate="end", chunk=CHUNK, concurrency=CONCURRENCY)
        answered = sum(1 for _ in outcomes)
        spent = time.perf_counter() - began, time.process_time() - cpu
    assert answered == rows
    return spent


async def with_async(url: str, items: Sequence[workload.Item], rows: int) -> tuple[float, float]:
    """Return wall and processor seconds of `AsyncClient.classify_many`."""
    async with AsyncClient(url) as client:
        await client.classify(TASK, items[0])
        began, cpu = time.perf_counter(), time.process_time()
        outcomes = client.classify_many(TASK, _rows(items, rows), truncate="end", chunk=CHUNK, concurrency=CONCURRENCY)
        answered = sum([1 async for _ in outcomes])
        spent = time.perf_counter() - began, time.process_time() - cpu
    assert answered == rows
    return spent


def report(found: dict[str, list[float]]) -> None:
    """Print the figures."""
    figures: dict[str, float] = {}
    for kind in ("sync", "async"):
        shares = [mine / own for mine, own in zip(found[kind], found["server"], strict=True)]
        figures[f"client_share_{kind}"] = statistics.median(shares)
        figures[f"client_cpu_us_per_row_{kind}"] = statistics.median(found[f"cpu_{kind}"])
        verdict = "met" if figures[f"client_share_{kind}"] >= GOAL else "missed"
        spread = f"{min(shares):.3f} to {max(shares):.3f}"
        print(f"{kind}: {figures[f'client_share_{kind}']:.3f} of the server's rate ({spread}), goal {GOAL}: {verdict}")
    detail = {"rows_per_s": {kind: found[kind] for kind in ("server", "sync", "async")}}
    print_result("client", figures, detail=detail)


def _rows(items: Sequence[workload.Item], count: int) -> Iterator[workload.Item]:
    return islice(cycle(items), count)


def _questions(items: Sequence[workload.Item]) -> list[Question]:
    """Return requests of `CHUNK` rows in the order in which the client sends them."""
    rows = islice(cycle(items), 64 * CHUNK)
    parts = iter(lambda: tuple(islice(rows, CHUNK)), ())
    return [Question(TASK, part, (), 0) for part in parts]


if __name__ == "__main__":
    app()
