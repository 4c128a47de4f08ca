"""How soon a server is ready, and the memory that it holds.

Each round starts `superpos serve` on a filled registry and imports PyTorch in a bare interpreter, alternately; all
files are in the page cache, and the embedded backbone is converted.

- `ready_vs_import_torch`: seconds from the start of the process to the first 200 of `/healthz/ready`, its warm-up and
  self-test included, ÷ seconds of `python -c "import torch"`; medians.
- `resident_base_bytes`: resident memory of the server once each bundled task has answered a batch.
- `adapter_resident_bytes`: growth of the server's own parts in this process per adapter of 10 × 512, loaded and in the
  prompt table, as in `benchmarks.adapters`; prompt, trie, template, catalog entry, allocator's slack.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich.progress import Progress
from rich.table import Table

from adapters.registry.opening import open_registry
from benchmarks.adapters.memory import fill
from benchmarks.common import workload
from benchmarks.common.in_process import in_process
from benchmarks.common.publishing import TASK, name, publisher
from benchmarks.common.report import print_result
from benchmarks.common.server_process import DoesNotAnswer, free_port, stop, superpos_server, tail
from cli.console import err, print_table
from sizing.processes import resident_bytes

_POLL_S = 0.02
_READY_WITHIN_S = 180.0
_BATCH = 8

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Started:
    """One start of a server."""

    ready_s: float
    resident_bytes: int


@app.command(help=__doc__)
def main(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Fewer starts, and 1,000 adapters: a server's one-time growth then counts more."),
    ] = False,
) -> None:
    rounds, count = (3, 1_000) if quick else (7, 10_000)
    with tempfile.TemporaryDirectory(prefix="superpos-") as scratch, Progress(console=err, transient=True) as progress:
        bar = progress.add_task("starting", total=rounds + 1)
        folder = Path(scratch)
        _start(folder)  # fills the registry with the bundled tasks, and the page cache
        imports: list[float] = []
        starts: list[Started] = []
        for _ in range(rounds):
            progress.update(bar, advance=1)
            imports.append(_import_torch_s())
            starts.append(_start(folder))
        progress.update(bar, description="filling", total=None)
        adapter_bytes = asyncio.run(_adapter_bytes(folder / "many.sqlite", count))
    figures = {
        "ready_vs_import_torch": statistics.median(each.ready_s for each in starts) / statistics.median(imports),
        "resident_base_bytes": statistics.median(each.resident_bytes for each in starts),
        "adapter_resident_bytes": adapter_bytes,
    }
    _report(figures, imports, [each.ready_s for each in starts])
    detail = {"imports_s": imports, "ready_s": [each.ready_s for each in starts], "adapters": count}
    print_result("footprint", figures, detail=detail)


def _import_torch_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def _start(folder: Path) -> Started:
    """Start a server until it is ready, let each task answer a batch, and stop it."""
    log, port = folder / "server.log", free_port()
    url, server = f"http://127.0.0.1:{port}", superpos_server(folder / "registry.sqlite")
    began = time.perf_counter()
    environment = {**os.environ, **(server.environment or {})}
    with log.open("w") as output:
        process = subprocess.Popen(
            server.command(port), stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        while not _is_ready(url):
            if time.perf_counter() - began > _READY_WITHIN_S or process.poll() is not None:
                raise DoesNotAnswer(f"not ready within {_READY_WITHIN_S:g} s; it said: {tail(log)}")
            time.sleep(_POLL_S)
        ready_s = time.perf_counter() - began
        for task, adapter in workload.originals().items():
            inputs = [dict.fromkeys(adapter.spec.fields, "a gripping film")] * _BATCH
            httpx2.post(f"{url}/classify/{task}", json={"inputs": inputs}, timeout=60).raise_for_status()
        return Started(ready_s, resident_bytes(process.pid))
    finally:
        stop(process)


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz/ready").is_success
    except httpx2.TransportError:
        return False


async def _adapter_bytes(path: Path, count: int) -> float:
    """Measure the growth per adapter in a server's parts in this process."""
    workload.publish(open_registry(path), name(0), workload.originals()[TASK])
    items = workload.texts({TASK: workload.originals()[TASK].spec}).items[TASK]
    async with in_process(path) as runtime, publisher(path) as other:
        return (await fill(runtime, other, items, count=count, done=lambda what: None)).bytes_each


def _report(figures: Mapping[str, float], imports: Sequence[float], ready: Sequence[float]) -> None:
    table = Table("figure", "value")
    table.add_row("import torch", f"{statistics.median(imports):.2f} s")
    table.add_row("ready", f"{statistics.median(ready):.2f} s, {figures['ready_vs_import_torch']:.2f} times that")
    table.add_row("resident base", f"{figures['resident_base_bytes'] / 1e6:,.0f} MB")
    table.add_row("per adapter", f"{figures['adapter_resident_bytes'] / 1e3:.1f} KB")
    print_table(table)


if __name__ == "__main__":
    app()
