"""Cost of the console: of an open live page to a server that is busy, and of the first page of ten thousand tasks.

`superpos serve` runs as a separate process with 10,000 tasks (a bundled adapter, perturbed). This process is the load
generator: 64 clients that send single texts of 100 tasks, as fast as they are answered. It also opens the live page's
stream of server-sent events as a browser does, in every second period; which of a round's two periods comes first
alternates.

- `live_page_throughput`: rows/s while the stream is open ÷ rows/s while it is not, median over rounds. The goal is
  0.98.
- `live_page_cpu`: the server's processor time per row while the stream is open ÷ while it is not, median over rounds.
  On a busy server it decides the rate, and other processes of the machine disturb it less. The goal is 1.02.
- `first_page_cold_ms`, `first_page_ms`: time until the list of tasks has arrived from an idle server, when it reads the
  cards of the list for the first time, and the median of later requests. The goal is 300 ms. They hold for one machine.
"""

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx2
import psutil
import typer

from adapters import DEFAULT_TENANT
from adapters.files import to_files
from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.http_load import Call, closed_loop
from benchmarks.common.publishing import TASK, name
from benchmarks.common.report import print_result
from benchmarks.common.schedule import draw
from benchmarks.common.server_process import Question, started, superpos_server, until_it_answers

NUM_TASKS, NUM_CALLED = 10_000, 100
DISTINCT = 25
"""Different adapters: as many as a page of the list has rows, so that each row reads a card of its own."""
CLIENTS = 64
PAGES = 20
GOAL, GOAL_CPU, GOAL_MS = 0.98, 1.02, 300.0

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@dataclass(slots=True)
class Found:
    """Measurements."""

    pages_ms: list[float] = field(default_factory=list)
    """Times of the list of tasks, the first one cold."""
    without: list[float] = field(default_factory=list)
    """Rows/s by round."""
    open_page: list[float] = field(default_factory=list)
    cpu_without: list[float] = field(default_factory=list)
    """The server's processor seconds per row by round."""
    cpu_open_page: list[float] = field(default_factory=list)
    events: int = 0
    """Beats that the open page received."""
    failures: int = 0


@app.command(help=__doc__)
def main(quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, same figures.")] = False) -> None:
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        report(asyncio.run(measure(Path(folder), rounds=2 if quick else 21, seconds=4.0)))


async def measure(folder: Path, *, rounds: int, seconds: float, num_tasks: int = NUM_TASKS) -> Found:
    """Start a server and measure.

    Args:
        folder: empty
        rounds: of two periods each
        seconds: of a period; the page gets an event every two seconds
        num_tasks: tasks of the registry
    """
    found, registry = Found(), folder / "registry.sqlite"
    original = workload.originals()[TASK]
    fill(registry, [to_files(workload.perturbed(original, seed)) for seed in range(DISTINCT)], num_tasks)
    ours, log = superpos_server(registry), folder / "superpos.log"
    with started(ours, log=log) as url:
        calls = calls_of(url, num_tasks)
        await until_it_answers(url, calls[0], log=log)
        async with httpx2.AsyncClient(base_url=url, timeout=60) as browser:
            await _pages(browser, found, num_tasks)
            await closed_loop(url, calls, clients=CLIENTS, seconds=2)  # warms up
            for number in range(rounds):
                for is_open in (number % 2 == 0, number % 2 == 1):
                    async with live_page(browser, found) if is_open else nullcontext():
                        before_s = cpu_of_children()
                        load = await closed_loop(url, calls, clients=CLIENTS, seconds=seconds, first=number * CLIENTS)
                        cpu_s = cpu_of_children() - before_s
                    (found.open_page if is_open else found.without).append(load.rows_per_s)
                    (found.cpu_open_page if is_open else found.cpu_without).append(cpu_s / load.rows)
                    found.failures += load.failures
    return found


def cpu_of_children() -> float:
    """Return the processor seconds so far of the processes that this one has started."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return float(sum(each.user + each.system for each in times))


@asynccontextmanager
async def live_page(browser: httpx2.AsyncClient, found: Found) -> AsyncIterator[None]:
    """Hold the live page's stream open for the time of the block, and count its beats."""
    async with browser.stream("GET", "/console/live/stream", timeout=None) as stream:
        if stream.status_code != 200:
            sys.exit(f"the live page's stream answered with {stream.status_code}")
        reading = asyncio.create_task(_read(stream, found))
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _read(stream: httpx2.Response, found: Found) -> None:
    async for line in stream.aiter_lines():
        found.events += line == "event: beat"


async def _pages(browser: httpx2.AsyncClient, found: Found, num_tasks: int) -> None:
    """Load the first page of the list of tasks, first cold and then again."""
    await browser.get("/healthz/live")  # the client's own first time
    for _ in range(PAGES + 1):
        began = time.perf_counter()
        page = await browser.get("/console/tasks")
        found.pages_ms.append(1_000 * (time.perf_counter() - began))
        if page.status_code != 200 or name(0) not in page.text:
            sys.exit(f"the list of {num_tasks} tasks answered with {page.status_code}, without {name(0)}")


def fill(registry: Path, uploads: Sequence[Mapping[str, bytes]], num_tasks: int) -> None:
    """Publish an adapter per task, in turn, and copy the rows of these tasks until there are `num_tasks`."""
    store, num_published = open_registry(registry), len(uploads)
    for number, files in enumerate(uploads):
        store.publish(DEFAULT_TENANT, name(number), files, actor="benchmark")
    copy = "INSERT INTO {0} SELECT tenant, printf(?, number), {1} FROM {0}, numbers WHERE task = printf(?, number % ?)"
    task = name(0).replace("00000", "%05d")
    with closing(sqlite3.connect(registry)) as db, db:
        db.execute("CREATE TEMP TABLE numbers (number INTEGER)")
        db.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(num_published, num_tasks)])
        for table in ("tasks", "versions", "contents", "aliases"):
            columns = [
                each for _, each, *_ in db.execute(f"PRAGMA table_info({table})") if each not in ("tenant", "task")
            ]
            db.execute(copy.format(table, ", ".join(columns)), (task, task, num_published))


def calls_of(url: str, num_tasks: int) -> Sequence[Call]:
    """Return requests with one text each, of the first tasks, the popular ones most often."""
    items = list(workload.texts({TASK: workload.originals()[TASK].spec}).items[TASK])
    chosen = draw(min(NUM_CALLED, num_tasks), "zipf", size=1_000, seed=1)
    make = superpos_server(Path()).call
    return [make(url, Question(name(number), (items[turn % len(items)],), (), 0)) for turn, number in enumerate(chosen)]


def report(found: Found) -> None:
    """Print the figures."""
    rates = [with_page / without for with_page, without in zip(found.open_page, found.without, strict=True)]
    cpu = [with_page / without for with_page, without in zip(found.cpu_open_page, found.cpu_without, strict=True)]
    cold, *warm = found.pages_ms
    figures = {
        "live_page_throughput": statistics.median(rates),
        "live_page_cpu": statistics.median(cpu),
        "first_page_cold_ms": cold,
        "first_page_ms": statistics.median(warm),
    }
    print(
        f"open live page: {figures['live_page_throughput']:.3f} of the rate without it "
        f"({min(rates):.3f} to {max(rates):.3f}), goal {GOAL}: {_met(figures['live_page_throughput'] >= GOAL)}"
    )
    print(
        f"processor time per row: {figures['live_page_cpu']:.3f} of that without it "
        f"({min(cpu):.3f} to {max(cpu):.3f}), goal {GOAL_CPU}: {_met(figures['live_page_cpu'] <= GOAL_CPU)}"
    )
    print(
        f"first page of {NUM_TASKS:,} tasks: {cold:.0f} ms cold, then {figures['first_page_ms']:.0f} ms, "
        f"goal {GOAL_MS:.0f} ms: {_met(max(found.pages_ms) <= GOAL_MS)}"
    )
    detail = {
        "rows_per_s": {"without": found.without, "open_page": found.open_page},
        "ratios": rates,
        "cpu_ratios": cpu,
        "pages_ms": found.pages_ms,
        "events": found.events,
        "failures": found.failures,
    }
    print_result("console", figures, detail=detail)


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


if __name__ == "__main__":
    app()
