"""Check `superpos score` on files of real size: killed at any moment, in flat memory, at the engine's rate.

    python -m verification.score             # 200,000 rows killed 20 times, 1,000,000 rows, the rate
    python -m verification.score --quick     # 20,000 rows killed 4 times, 100,000 rows

- *kills*: a job is killed (SIGKILL) at random moments and run again until its output is there. Output and rejected rows
  must be those of an undisturbed run, to the byte.
- *memory*: peak memory of jobs of 10,000 and of 1,000,000 rows. Texts repeat and the result cache is on, so that the
  files and not the model decide. The larger job may take 1.1 times the memory of the smaller one.
- *rate*: rows/s of a job in this process ÷ rows/s of the engine alone on the same rows, alternately, at least 0.95.

The embedded backbone classifies, with a `pooled` readout without a prompt and, for the rate, with the bundled `sst2`.
The program exits with status 1 if a check fails.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Literal

import pyarrow
import pyarrow.parquet
import typer

from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.in_process import engine_rate, engine_rows, in_process
from benchmarks.common.report import print_result
from benchmarks.common.server_process import SUPERPOS, Question
from scoring.files.opening import Reading
from scoring.files.part import PART_ROWS
from scoring.job import Job
from scoring.manifest import FileRecord
from scoring.outputs import Output
from scoring.scorer import Scorer
from scoring.streaming import StreamedRun
from scoring.tasks import AnswerOptions, resolve_tasks
from scoring.worker import CONCURRENCY
from superpos_client import Client, SuperposError

TASK, HEAD = "sst2", "sst2-head"
WORDS = ("gripping", "film", "flat", "overlong", "plot", "warm", "dull", "score", "acting", "scenes")
ROW_GROUP = 50_000
MAX_GROWTH, MIN_RATE = 1.1, 0.95
CHUNK = 64

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rows and kills.")] = False,
    rows: Annotated[int | None, typer.Option(help="Rows of the killed job.")] = None,
    kills: Annotated[int | None, typer.Option(help="Number of kills.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the moments of the kills.")] = 0,
    only: Annotated[Literal["kills", "memory", "rate"] | None, typer.Option(help="Run this check alone.")] = None,
) -> None:
    num_rows, num_kills = rows or (20_000 if quick else 200_000), kills or (4 if quick else 20)
    sizes = (10_000, 100_000 if quick else 1_000_000)
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        folder = Path(name)
        registry = folder / "registry.sqlite"
        adapter = workload.originals()[TASK]
        workload.publish(open_registry(registry), TASK, adapter)
        workload.publish(open_registry(registry), HEAD, workload.with_readout(adapter, "pooled", prompt=False))
        figures: dict[str, float] = {}
        faults: list[str] = []
        if only in (None, "kills"):
            faults += check_kills(folder, registry, rows=num_rows, kills=num_kills, seed=seed, figures=figures)
        if only in (None, "memory"):
            faults += check_memory(folder, registry, sizes=sizes, figures=figures)
        if only in (None, "rate"):
            faults += check_rate(folder, registry, rounds=3 if quick else 5, figures=figures)
    for fault in faults:
        print(f"FAILED: {fault}")
    print_result("score", figures, detail={"rows": num_rows, "sizes": sizes})
    sys.exit(1 if faults else 0)


def write_rows(path: Path, count: int, *, texts: int) -> Path:
    """Write rows with ids, texts of which `texts` differ, other columns, and some rows that are refused."""

    def row_text(number: int) -> str | None:
        if number % 9_973 == 17:
            return None
        if number % 7_919 == 23:
            return "word " * 2_000
        return " ".join(WORDS[int(digit)] for digit in f"{number % texts:05}")

    schema = pyarrow.schema(
        [("id", pyarrow.int64()), ("sentence", pyarrow.string()), ("price", pyarrow.decimal128(9, 2))]
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, count, ROW_GROUP):
            numbers = range(start, min(count, start + ROW_GROUP))
            prices = pyarrow.array(numbers, pyarrow.int32()).cast(pyarrow.decimal128(12, 2)).cast(schema.field(2).type)
            writer.write_table(
                pyarrow.table([pyarrow.array(numbers), pyarrow.array(map(row_text, numbers)), prices], schema=schema)
            )
    return path


def command(registry: Path, source: Path, out: Path, *, part_rows: int = PART_ROWS) -> list[str]:
    options = ["--out", str(out), "--local", str(registry), "--part-rows", str(part_rows), "--plain"]
    return [SUPERPOS, "score", HEAD, str(source), *options]


def check_kills(
    folder: Path, registry: Path, *, rows: int, kills: int, seed: int, figures: dict[str, float]
) -> list[str]:
    """Kill a job again and again; return what differs from an undisturbed one."""
    source = write_rows(folder / "killed.parquet", rows, texts=100_000)
    whole, out = folder / "whole.parquet", folder / "out.parquet"
    part_rows = max(1, min(PART_ROWS, rows // 50))
    began = time.monotonic()
    subprocess.run(command(registry, source, whole, part_rows=part_rows), check=True, capture_output=True)
    whole_s = time.monotonic() - began
    print(f"undisturbed: {rows:,} rows in {whole_s:.0f} s")
    start_s = _start_s(folder, registry)
    chance, done = random.Random(seed), 0
    while done < kills and not out.exists():
        moment = chance.uniform(0.5 * start_s, 1.2 * start_s + 1.6 * whole_s / kills)
        with subprocess.Popen(
            command(registry, source, out, part_rows=part_rows), stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _, errors = process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.kill()
                done += 1
                saved = len(list((folder / "out.parquet.parts").rglob("*.parquet")))
                print(f"kill {done}: after {moment:.1f} s, {saved} parts on the disk", flush=True)
                continue
            if process.returncode:
                return [f"the job failed after {done} kills: {errors}"]
    subprocess.run(command(registry, source, out, part_rows=part_rows), check=True, capture_output=True)
    figures["kills"], figures["killed_rows"] = done, rows
    found = []
    for end in ("", ".rejected.jsonl"):
        pair = [Path(f"{path}{end}").read_bytes() for path in (whole, out)]
        if pair[0] != pair[1]:
            found.append(f"{out.name}{end} differs from the undisturbed run's after {done} kills")
    if done < kills:
        found.append(f"the job ended after {done} of {kills} kills; use more rows")
    leftovers = [path.name for path in folder.iterdir() if path.name.endswith(".parts")]
    if leftovers:
        found.append(f"left behind: {', '.join(leftovers)}")
    read = pyarrow.parquet.read_table(out, columns=["id"]).column("id")
    if not read.equals(pyarrow.chunked_array([pyarrow.array(range(rows))])):
        found.append("the ids are not those of the input")
    print(f"kills: {done}, output {'differs' if found else 'equal to the byte'}")
    return found


def _start_s(folder: Path, registry: Path) -> float:
    """Measure the time of a job of one row."""
    source = write_rows(folder / "one.parquet", 1, texts=1)
    began = time.monotonic()
    subprocess.run(command(registry, source, folder / "one-out.parquet"), check=True, capture_output=True)
    return time.monotonic() - began


def check_memory(folder: Path, registry: Path, *, sizes: Sequence[int], figures: dict[str, float]) -> list[str]:
    """Compare the peak memory of jobs of different sizes."""
    peaks: list[float] = []
    for size in sizes:
        source = write_rows(folder / f"rows{size}.parquet", size, texts=500)
        out = folder / f"scored{size}.parquet"
        began = time.monotonic()
        code = (
            "import json, resource, subprocess, sys\n"
            "done = subprocess.run(json.loads(sys.argv[1]), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.returncode)\n"
        )
        arguments = json.dumps(command(registry, source, out))
        environment = os.environ | {"SUPERPOS_RESULT_CACHE_BYTES": str(16 << 20)}
        printed = subprocess.run(
            [sys.executable, "-c", code, arguments], env=environment, check=True, capture_output=True, text=True
        ).stdout
        kilobytes, status = map(int, printed.split())
        if status:
            return [f"the job of {size:,} rows failed"]
        peaks.append(kilobytes * 1024)
        figures[f"peak_bytes_{size}"] = peaks[-1]
        print(f"memory: {size:,} rows, peak {peaks[-1] / 1e6:.0f} MB, {time.monotonic() - began:.0f} s", flush=True)
        source.unlink()
        out.unlink()
    growth = figures["memory_growth"] = peaks[-1] / peaks[0]
    return [] if growth <= MAX_GROWTH else [f"memory grew {growth:.2f} times, expected at most {MAX_GROWTH}"]


def check_rate(folder: Path, registry: Path, *, rounds: int, figures: dict[str, float]) -> list[str]:
    """Compare the rate of a job with that of the engine alone."""
    items = list(workload.texts({TASK: workload.originals()[TASK].spec}).items[TASK])
    shares, alone, whole = asyncio.run(_rates(folder, registry, items, rounds=rounds))
    share = figures["score_share"] = statistics.median(shares)
    figures["score_rows_per_s"], figures["engine_rows_per_s"] = statistics.median(whole), statistics.median(alone)
    print(f"rate: {share:.3f} of the engine's ({min(shares):.3f} to {max(shares):.3f})")
    return [] if share >= MIN_RATE else [f"the rate is {share:.3f} of the engine's, expected at least {MIN_RATE}"]


class _Silent:
    def scored(self, rows: int) -> None: ...

    def finished(self, name: str, record: FileRecord) -> None: ...

    def waiting(self, seconds: float, error: SuperposError) -> None:  # noqa: ARG002 - of the protocol
        raise error


async def _rates(
    folder: Path, registry: Path, items: Sequence[workload.Item], *, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    shares, alone, whole = [], [], []
    async with in_process(registry) as runtime:
        questions = [Question(TASK, tuple(part), (), 256) for part in _parts(items)]
        chunks = [await engine_rows(runtime, question) for question in questions]
        with Client.local(str(registry), bundled=False, max_queue_rows=1 << 20, max_queue_tokens=1 << 30) as client:
            tasks, options = resolve_tasks(client, [TASK], text=None, columns={}), AnswerOptions(truncate="end")
            scorer = Scorer(client=client, tasks=tasks, options=options, concurrency=CONCURRENCY)
            for number in range(-1, rounds):
                seconds = 8.0 if number >= 0 else 2.0
                own = await asyncio.to_thread(engine_rate, runtime, chunks, outstanding=4, seconds=seconds)
                count = int(own * seconds)
                source = folder / "rate.jsonl"
                lines = (json.dumps({"id": n, **item}) for n, item in enumerate(islice(cycle(items), count)))
                source.write_text("\n".join(lines) + "\n")
                out = Output(folder / "rate-out.jsonl", is_folder=False)
                job = Job(tasks, options, {"rate.jsonl": source}, out, Reading(), precision="fp32")
                began = time.perf_counter()
                with job.opened(restart=True):
                    await asyncio.to_thread(StreamedRun(job, scorer).run, _Silent())
                rate = count / (time.perf_counter() - began)
                if number >= 0:
                    shares.append(rate / own)
                    alone.append(own)
                    whole.append(rate)
    return shares, alone, whole


def _parts(items: Sequence[workload.Item]) -> Iterator[list[workload.Item]]:
    rows = islice(cycle(items), 16 * CHUNK)
    while part := list(islice(rows, CHUNK)):
        yield part


if __name__ == "__main__":
    app()
