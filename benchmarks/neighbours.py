"""Our forward while another process takes one of its cores, or while it has half of them.

A server in a container with a CPU quota, or next to other containers, often loses a core for a time slice. Threads that
wait for the one that is off the processor then spin, or sleep and are woken. Each setting runs in its own process,
alternately, on 8 mixed rows in fp32, or on one short text:

- `default`: a thread per core, and libgomp's waiting, which spins for some milliseconds.
- `short`: a thread per core that spins for about 30 µs (`GOMP_SPINCOUNT=3000`), as `superpos serve` has it;
  `passive`: one that sleeps at once (`OMP_WAIT_POLICY=passive`), as the image has it.
- `single`: one thread.

Figures, by setting:

- `busy_core_p50_ratio_…`, `busy_core_p99_ratio_…`: seconds of a batch while a loop runs on one of the cores ÷ those of
  the same setting on idle cores.
- `busy_core_p50_vs_default_…`: the same seconds ÷ those of `default` with the same loop; `idle_p50_vs_default_…`:
  likewise on idle cores, which is what a setting costs.
- `half_cores_p50_ratio_…`: on half of the cores (affinity, as many threads as before) ÷ on all.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import platformdirs
import typer
from rich.progress import Progress
from rich.table import Table

from backbone import embedded
from benchmarks.common.process import SETTLE_S, EngineProcess, start
from benchmarks.common.report import print_result
from benchmarks.engine.__main__ import WORKER, workloads
from cli.console import err, print_table
from service.cores import SPINS

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "short": {"GOMP_SPINCOUNT": SPINS},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "single": {"OMP_NUM_THREADS": "1"},
}
CONDITIONS = ("idle", "busy_core", "half_cores")
app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer batches, same figures.")] = False,
    single: Annotated[bool, typer.Option("--single", help="One short text alone instead of 8 rows.")] = False,
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("this process may use one core; at least two are needed")
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))
    folder = embedded.prepare(cache_dir, err.print)
    seconds = {condition: {name: list[float]() for name in SETTINGS} for condition in CONDITIONS}
    rounds, batches = (2, 4) if quick else (6, 25)
    workload, batches = ("mixed1", 8 * batches) if single else ("mixed8", batches)
    engines: list[EngineProcess] = []
    with tempfile.TemporaryDirectory(prefix="sp-") as scratch, Progress(console=err, transient=True) as progress:
        bar = progress.add_task("starting", total=rounds * len(CONDITIONS) * len(SETTINGS))
        try:
            for name, environment in SETTINGS.items():
                log = Path(scratch) / f"{name}.log"
                engines.append(start(WORKER, "superpos_fp32", str(folder), scratch, log=log, environment=environment))
                engines[-1].ask(workloads(quick=True)[workload])
            for _ in range(rounds):
                for condition in CONDITIONS:
                    for name, engine in zip(SETTINGS, engines, strict=True):
                        progress.update(bar, description=f"{condition}: {name}", advance=1)
                        with _condition(condition, engine, cores):
                            time.sleep(SETTLE_S)
                            for _ in range(batches):
                                seconds[condition][name].append(float(str(engine.ask(None))))
        finally:
            for engine in engines:
                engine.stop()
    p50 = {
        condition: {name: statistics.median(each) for name, each in seconds[condition].items()} for condition in seconds
    }
    p99 = {
        condition: {name: float(np.quantile(each, 0.99)) for name, each in seconds[condition].items()}
        for condition in seconds
    }
    figures: dict[str, float] = {}
    for name in SETTINGS:
        figures[f"busy_core_p50_ratio_{name}"] = p50["busy_core"][name] / p50["idle"][name]
        figures[f"busy_core_p99_ratio_{name}"] = p99["busy_core"][name] / p99["idle"][name]
        figures[f"busy_core_p50_vs_default_{name}"] = p50["busy_core"][name] / p50["busy_core"]["default"]
        figures[f"idle_p50_vs_default_{name}"] = p50["idle"][name] / p50["idle"]["default"]
        figures[f"half_cores_p50_ratio_{name}"] = p50["half_cores"][name] / p50["idle"][name]
    table = Table("setting", *(f"{condition} {which}" for condition in CONDITIONS for which in ("p50", "p99")))
    for name in SETTINGS:
        cells = (found[condition][name] / p50["idle"]["default"] for condition in CONDITIONS for found in (p50, p99))
        table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    table.title = "seconds of a batch ÷ those of the default on idle cores (p50)"
    print_table(table)
    print_result(
        "neighbours",
        {name: float(f"{value:.4g}") for name, value in figures.items()},
        detail={"workload": workload, "p50": p50, "p99": p99},
    )


@contextmanager
def _condition(condition: str, engine: EngineProcess, cores: list[int]) -> Iterator[None]:
    """Make the neighbour or the affinity of a condition, for the time of the block."""
    if condition == "busy_core":
        loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            os.sched_setaffinity(loop.pid, {cores[-1]})
            yield
        finally:
            loop.kill()
            loop.wait()
    elif condition == "half_cores":
        _confine(engine, set(cores[: len(cores) // 2]))
        try:
            yield
        finally:
            _confine(engine, set(cores))
    else:
        yield


def _confine(engine: EngineProcess, cores: set[int]) -> None:
    """Set the affinity of all threads of a process."""
    for thread in Path(f"/proc/{engine.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


if __name__ == "__main__":
    app()
