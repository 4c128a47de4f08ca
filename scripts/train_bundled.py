"""Retrains the bundled adapters into `adapters/bundled`. Needs the real rows (SUPERPOS_DATA).

All of them take about an hour on two cores, in bf16 if the CPU supports it. Tasks can be named, so that two processes
can run in parallel:

    SUPERPOS_DATA=… SUPERPOS_THREADS=1 python -m scripts.train_bundled sst2 mrpc

The figures of each adapter are in its card.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.bundle import BUNDLED
from backbone.precision import cpu_has_bf16

ROOT = Path(__file__).parents[1]
SUPERPOS = str(Path(sys.executable).with_name("superpos"))
RUNS = {
    "ag_news": ("--lr", "0.03", "--epochs", "2", "--eval-every", "85"),
    "banking77": ("--lr", "0.1", "--epochs", "4", "--eval-every", "127"),
    "mrpc": ("--lr", "0.03", "--epochs", "3", "--eval-every", "52"),
    "rte": ("--lr", "0.03", "--epochs", "3", "--eval-every", "35"),
    "sst2": ("--lr", "0.03", "--limit", "8000", "--epochs", "2", "--eval-every", "62"),
    "stsb": ("--lr", "0.03", "--epochs", "3", "--eval-every", "81"),
    "trec": ("--lr", "0.03", "--epochs", "5", "--eval-every", "70"),
}
"""Options of `superpos train` by task: the best of docs/results.md, on a number of rows that suits two cores."""


def main() -> int:
    """Train each task with the `superpos` command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(RUNS)} (default: all)")
    tasks = parser.parse_args().tasks or list(RUNS)
    if unknown := [task for task in tasks if task not in RUNS]:
        parser.error(f"task {unknown[0]!r} is not bundled, expected names from {', '.join(RUNS)}")
    if not os.environ.get("SUPERPOS_DATA"):
        sys.exit("set SUPERPOS_DATA to the folder of the real rows (see examples/tasks)")
    for task in tasks:
        train(task)
    return 0


def train(task: str) -> None:
    """Train one task, then replace its folder."""
    precision = ("--precision", "bf16") if cpu_has_bf16() else ()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / task
        file = str(ROOT / f"examples/tasks/{task}.yaml")
        command = [SUPERPOS, "train", file, *RUNS[task], *precision, "--out", str(run), "--no-report", "--plain"]
        subprocess.run(command, check=True)
        shutil.rmtree(BUNDLED / task, ignore_errors=True)
        shutil.copytree(run / "adapter", BUNDLED / task)


if __name__ == "__main__":
    sys.exit(main())
