"""Rate of `superpos score --ray`: a worker against the engine of this process, and two workers against one.

    python -m benchmarks.scoring_on_ray             # five rounds
    python -m benchmarks.scoring_on_ray --quick     # two rounds, fewer parts

Each round scores the same rows three times: in this process on one thread, with one worker of one core, and with two.
The order changes from round to round. Workers load their backbones before the clock starts: rates are taken between
the first part that each of them has answered and the last part. Two workers need two idle cores.

The program exits with status 1 if the rate per core is below 0.9 of the local engine's, or two workers are below 1.8
times one: medians over rounds of the ratio within a round.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow
import pyarrow.parquet
import torch
import typer

from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.report import print_result
from scoring.files.opening import Reading
from scoring.job import Job
from scoring.manifest import FileRecord
from scoring.on_ray import RayRun, Workers
from scoring.outputs import Output
from scoring.scorer import Scorer
from scoring.streaming import StreamedRun
from scoring.tasks import AnswerOptions
from scoring.worker import CONCURRENCY, PortableTasks, WorkerEngine
from superpos_client import SuperposError
from training.ray_cluster import LOCAL, cluster

TASK, PART_ROWS = "sst2", 128
MIN_SHARE, MIN_SPEEDUP = 0.9, 1.8

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@dataclass(slots=True)
class Clock:
    """Notes when parts are saved."""

    parts: list[tuple[float, int]] = field(default_factory=list)

    def scored(self, rows: int) -> None:
        self.parts.append((time.perf_counter(), rows))

    def finished(self, name: str, record: FileRecord) -> None: ...

    def waiting(self, seconds: float, error: SuperposError) -> None:  # noqa: ARG002 - of the protocol
        raise error

    def rate(self, *, skipped: int) -> float:
        """Return the rows/s after the first entries."""
        began = self.parts[skipped - 1][0]
        return sum(rows for _, rows in self.parts[skipped:]) / (self.parts[-1][0] - began)


@app.command(help=__doc__)
def main(quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and parts.")] = False) -> None:
    rounds, parts = (2, 12) if quick else (5, 24)
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"local": [], "one": [], "two": []}
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        folder = Path(name)
        adapter = workload.originals()[TASK]
        registry = folder / "registry.sqlite"
        workload.publish(open_registry(registry), TASK, adapter)
        tasks = PortableTasks.read(open_registry(registry), [TASK])
        texts = [item["sentence"] for item in workload.texts({TASK: adapter.spec}).items[TASK]]
        source = folder / "rows.parquet"
        rows = list(islice(cycle(texts), parts * PART_ROWS))
        pyarrow.parquet.write_table(pyarrow.table({"sentence": rows}), source)
        with cluster(LOCAL, num_cpus=2):
            measures: dict[str, Callable[[], float]] = {
                "local": lambda: local_rate(folder, source, tasks),
                "one": lambda: ray_rate(folder, source, tasks, 1),
                "two": lambda: ray_rate(folder, source, tasks, 2),
            }
            for number in range(rounds):
                order = list(measures)
                for place in order[number % 3 :] + order[: number % 3]:
                    rates[place].append(measures[place]())
                    print(f"round {number + 1}: {place}: {rates[place][-1]:.1f} rows/s", flush=True)
    figures = {
        **{f"{place}_rows_per_s": statistics.median(found) for place, found in rates.items()},
        "share_of_local": _paired(rates["one"], rates["local"]),
        "speedup_of_two": _paired(rates["two"], rates["one"]),
    }
    share, speedup = figures["share_of_local"], figures["speedup_of_two"]
    faults = []
    if share < MIN_SHARE:
        faults.append(f"a worker has {share:.3f} of the local engine's rate, expected at least {MIN_SHARE}")
    if speedup < MIN_SPEEDUP:
        faults.append(f"two workers have {speedup:.2f} times the rate of one, expected at least {MIN_SPEEDUP}")
    for fault in faults:
        print(f"FAILED: {fault}")
    print_result("scoring_on_ray", figures, detail={"rows": parts * PART_ROWS, "rates": rates})
    sys.exit(1 if faults else 0)


def _paired(rates: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over rounds of one rate ÷ another of the same round, in which the machine was the same."""
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def local_rate(folder: Path, source: Path, tasks: PortableTasks) -> float:
    """Measure the engine of this process, as `superpos score --local --threads 1` uses it."""
    engine = WorkerEngine(tasks, {"threads": 1})
    try:
        job, clock = a_job(folder, source, tasks), Clock()
        scorer = Scorer(client=engine.client, tasks=tasks.tasks, options=job.options, concurrency=CONCURRENCY)
        with job.opened(restart=True):
            StreamedRun(job, scorer).run(clock)
        return clock.rate(skipped=PART_ROWS)
    finally:
        engine.close()


def ray_rate(folder: Path, source: Path, tasks: PortableTasks, workers: int) -> float:
    """Measure workers of one core each."""
    job, clock = a_job(folder, source, tasks), Clock()
    with job.opened(restart=True):
        RayRun(job, tasks, Workers(settings={}, number=workers)).run(clock)
    return clock.rate(skipped=workers)


def a_job(folder: Path, source: Path, tasks: PortableTasks) -> Job:
    """Make the job that is measured."""
    output = Output(folder / "scored.parquet", is_folder=False)
    reading = Reading(part_rows=PART_ROWS)
    return Job(tasks.tasks, AnswerOptions(truncate="end"), {source.name: source}, output, reading, precision="fp32")


if __name__ == "__main__":
    app()
