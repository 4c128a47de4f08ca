"""Retrain the bundled adapters into `adapters/bundled`. Needs the real rows (SUPERPOS_DATA).

All of them take about an hour on two cores, in bf16 if the CPU supports it. Tasks can be named, so that two processes
can run in parallel:

    SUPERPOS_DATA=… SUPERPOS_THREADS=1 python -m scripts.train_bundled sst2 mrpc

The figures of each adapter are in its card.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from adapters.files import BUNDLED
from backbone.precision import cpu_has_bf16

ROOT = Path(__file__).parents[1]
SUPERPOS = str(Path(sys.executable).with_name("superpos"))
_WORDS = ("--readout", "words")
_SOFT = (
    *("--readout", "soft", "--lr", "0.1", "--readout-lr", "0.01"),
    *("--readout-dropout", "0.2", "--token-dropout", "0.1"),
)
RUNS = {
    "ag_news": (*_SOFT, "--epochs", "3", "--eval-every", "150"),
    "banking77": (*_SOFT, "--epochs", "8", "--label-smoothing", "0.05"),
    "messages": ("--readout", "pooled"),
    "mrpc": (*_SOFT, "--epochs", "8", "--label-smoothing", "0.05"),
    "qqp": ("--readout", "pooled", "--limit", "6000", "--epochs", "2", "--eval-every", "94"),
    "rte": (*_WORDS, "--lr", "0.03", "--epochs", "3", "--eval-every", "35"),
    "sst2": (*_WORDS, "--lr", "0.03", "--limit", "8000", "--epochs", "2", "--eval-every", "62"),
    "stsb": (*_WORDS, "--lr", "0.03", "--epochs", "3", "--eval-every", "81"),
    "trec": (*_SOFT, "--epochs", "8", "--label-smoothing", "0.05"),
}
"""Options of `superpos train` by task: the best of docs/results.md, on a number of rows that suits two cores."""


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK", help=f"Some of {', '.join(RUNS)}.")] = None,
) -> None:
    if unknown := [task for task in tasks or () if task not in RUNS]:
        raise typer.BadParameter(f"task {unknown[0]!r} is not bundled, expected some of {', '.join(RUNS)}")
    if not os.environ.get("SUPERPOS_DATA"):
        sys.exit("set SUPERPOS_DATA to the folder of the real rows (see examples/tasks)")
    for task in tasks or RUNS:
        train(task)


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
    app()
