"""Thousands of mutated uploads to a server: none may crash it, hang it, exhaust its memory or be accepted wrongly.

- `python -m verification.upload_fuzz --uploads 20000`: against a new server
- `python -m verification.upload_fuzz --replay upload-fuzz/FILE`: send a saved upload again, and print the response

Each must be answered within a second, by success or by a refusal with its code (and check). Accepted adapters are
downloaded, compared by digest and queried. A slow upload is sent again alone, at most twice, since a real hang repeats.
Offending uploads are saved as bytes. One violation leads to exit status 1.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adapters import BackboneRef, Manifest, PromptAdapter, Provenance, TaskSpec
from backbone import Backbone, load
from benchmarks.common.http_load import Call
from benchmarks.common.report import print_result
from benchmarks.common.server_process import SUPERPOS, Server, started, tail, until_it_answers
from service.settings import default_cache_dir
from verification.upload_fuzz.mutations import Mutated
from verification.upload_fuzz.sending import attack, timed
from verification.upload_fuzz.verdict import Findings, unreached

MAX_GROWTH_BYTES = 50 << 20
NUM_WARM_UP = 1_000
ADDRESS_SPACE_BYTES = 2 << 30
"""Address space that the server may reserve after the warm-up; beyond it allocations fail."""
SMALL = {
    "PROMPT_TABLE_BYTES": 1 << 20,
    "MAX_LOADED_ADAPTERS": 16,
    "THREADS": 1,
    "LOG_LEVEL": "warning",
    "BUNDLED": False,
}
"""Settings under which accepted adapters soon leave memory."""

READINESS = Call(b"GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\n\r\n", 0)

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)


@dataclass(slots=True)
class Memory:
    """A server's resident bytes after the warm-up, and the largest and the last value since then."""

    process: psutil.Process
    warm: int = 0
    peak: int = 0
    last: int = 0

    def look(self, answered: int) -> None:
        """Read the resident memory; it counts once enough uploads were answered for the server to be warm."""
        if answered < NUM_WARM_UP or answered % 10:
            return
        with suppress(psutil.NoSuchProcess):
            memory = self.process.memory_info()
            if not self.warm:
                self.warm = memory.rss
                limit = memory.vms + ADDRESS_SPACE_BYTES
                if sys.platform == "linux":
                    self.process.rlimit(psutil.RLIMIT_AS, (limit, limit))
            self.last, self.peak = memory.rss, max(self.peak, memory.rss)

    @property
    def growth_bytes(self) -> int:
        """Return the largest growth; 0 if the run ended before the server was warm."""
        return self.peak - self.warm


def valid_adapter(backbone: Backbone) -> PromptAdapter:
    """Make the adapter that all uploads are mutations of."""
    manifest = Manifest(
        task=TaskSpec(template="sentence: {sentence}", labels={"negative": "negative", "positive": "positive"}),
        backbone=BackboneRef(**asdict(backbone.identity)),
        provenance=Provenance(method="random", seed=0),
    )
    scale = float(backbone.weights.embedding.std())
    prompt = np.random.default_rng(0).normal(0, scale, (10, backbone.width)).astype(np.float32)
    return PromptAdapter(prompt, manifest)


@contextmanager
def served(backbone: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server process with an empty registry; yield its address and the process when it is ready."""
    environment = {f"SUPERPOS_{name}": str(value) for name, value in SMALL.items()} | {"SUPERPOS_BACKBONE": backbone}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"

        def command(port: int) -> Sequence[str]:
            registry = str(Path(folder) / "registry.sqlite")
            return (SUPERPOS, "serve", "--port", str(port), "--registry", registry, "--log-format", "json")

        with started(Server("superpos", command, lambda *_: NotImplemented, None, environment), log=log) as url:
            process = max(psutil.Process().children(), key=lambda child: child.create_time())
            asyncio.run(until_it_answers(url, READINESS, log=log))
            try:
                yield url, process
            finally:
                console.print(tail(log), markup=False, highlight=False)


@app.command(help=__doc__)
def main(
    uploads: Annotated[int, typer.Option(min=1, help="Number of mutated uploads.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the mutations.")] = 0,
    backbone: Annotated[str, typer.Option(help="Backbone of the server, as in SUPERPOS_BACKBONE.")] = "embedded",
    out: Annotated[Path, typer.Option(help="Folder for offending uploads.")] = Path("upload-fuzz"),
    replay: Annotated[Path | None, typer.Option(help="Send this saved upload instead, and print the response.")] = None,
) -> None:
    with served(backbone) as (url, process):
        if replay is not None:
            _replay(url, replay)
            return
        base, memory = valid_adapter(load(backbone, cache_dir=default_cache_dir())), Memory(process)
        with Progress(console=console) as progress:
            bar = progress.add_task("uploads", total=uploads)

            def answered(count: int) -> None:
                progress.update(bar, completed=count)
                memory.look(count)

            found = asyncio.run(attack(url, base, uploads=uploads, seed=seed, progress=answered))
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    _report(found, uploads=uploads, seed=seed)
    _save(found, out)
    broken = [f"{len(found.violations)} violations, saved in {out}, seed {seed}"] if found.violations else []
    broken += [] if alive else ["the server process ended"]
    broken += [] if memory.growth_bytes <= MAX_GROWTH_BYTES else [f"it grew by {memory.growth_bytes >> 20} MB"]
    for line in broken:
        console.print(f"does not hold: {line}", style="bold red", markup=False)
    print_result("upload_fuzz", _figures(found, memory), detail=_detail(found, uploads=uploads, seed=seed))
    raise typer.Exit(1 if broken else 0)


def _replay(url: str, file: Path) -> None:
    upload = Mutated(0, file.read_bytes(), (), is_http=False)
    reply, seconds = asyncio.run(timed(url, upload))
    console.print("no answer" if reply is None else f"{reply.head!r}\n{reply.body!r}", markup=False, highlight=False)
    console.print(f"{seconds:.3f} s")


def _report(found: Findings, *, uploads: int, seed: int) -> None:
    """Print how often each check refused an upload, which never did, and all violations."""
    table = Table(
        "check", "uploads", title=f"{uploads} uploads of seed {seed}: {found.accepted} taken, others refused by"
    )
    for check, count in sorted(found.checks.items()):
        table.add_row(check, str(count))
    for check in unreached(found):
        table.add_row(check, "never", style="yellow")
    console.print(table)
    for upload, wrong in found.violations[:20]:
        names = ", ".join(upload.mutations)
        console.print(f"upload {upload.number} ({names}): {wrong}", style="red", markup=False, highlight=False)


def _save(found: Findings, folder: Path) -> None:
    for upload, _ in found.violations:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"upload-{upload.number}.http").write_bytes(upload.request)


def _figures(found: Findings, memory: Memory) -> dict[str, float]:
    seconds = np.array(found.seconds or [0.0])
    return {
        "uploads": found.statuses.total(),
        "violations": len(found.violations),
        "accepted": found.accepted,
        "checks_hit": len(found.checks),
        "p50_ms": 1e3 * float(np.quantile(seconds, 0.5)),
        "p99_ms": 1e3 * float(np.quantile(seconds, 0.99)),
        "slowest_ms": 1e3 * float(seconds.max()),
        "late_in_company": len(found.late),
        "resident_warm_mb": memory.warm / 1e6,
        "growth_peak_mb": memory.growth_bytes / 1e6,
        "growth_end_mb": (memory.last - memory.warm) / 1e6,
    }


def _detail(found: Findings, *, uploads: int, seed: int) -> dict[str, object]:
    return {
        "uploads": uploads,
        "seed": seed,
        "statuses": dict(found.statuses.most_common()),
        "checks": dict(found.checks.most_common()),
        "never": unreached(found),
        "mutations": dict(found.mutations.most_common()),
    }


if __name__ == "__main__":
    app()
