"""Scores of prompts on SST-2 with 16 rows per label, trained on the device as the accuracy grids are."""

import os
import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from backbone import load
from benchmarks.common.report import ROOT
from benchmarks.gpu.part import LeftOut, Measured, Setup, run_part
from benchmarks.training.cells import HEAD, Cell, GridFile, read_results
from cli.console import err, print_table
from training.task.task_file import load_task_file

LINES = ("superpos/words", "superpos/soft", HEAD)
SEEDS = (0, 1, 2)
QUICK_ARGUMENTS = (("epochs", 1), ("num_sampled_tokens", 16), ("num_virtual_tokens", 4))


def measure(setup: Setup) -> Measured:
    """Return the mean score of each line over the seeds."""
    data = os.environ.get("SUPERPOS_DATA")
    if not data or not (Path(data) / "sst2").is_dir():
        raise LeftOut("SUPERPOS_DATA does not name a folder with the rows of SST-2, which the grid trains on")
    task = load_task_file(ROOT / "examples/tasks/sst2.yaml", variables=os.environ)
    backbone = load("embedded", cache_dir=setup.cache_dir, device=setup.device)
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        file = Path(folder) / "grid.jsonl"
        grid = GridFile(file, backbone, {"sst2": task}, precision=setup.precision, say=err.print)
        failed = grid.run(_cells(setup))
        results = read_results(file)
    if failed:
        raise RuntimeError(f"{failed} cells of the grid failed")
    figures: dict[str, float] = {}
    table = Table("line", "accuracy, mean of seeds", "seconds per seed")
    for line in dict.fromkeys(result.cell.line for result in results):
        scores = [result.score for result in results if result.cell.line == line]
        seconds = [result.seconds for result in results if result.cell.line == line]
        figures[f"{line.replace('/', '_')}_accuracy"] = statistics.mean(scores)
        table.add_row(line, f"{statistics.mean(scores):.3f}", f"{statistics.mean(seconds):.1f}")
    print_table(table)
    detail = {"precision": setup.precision, "seconds": sum(result.seconds for result in results), "cells": len(results)}
    return Measured(figures=figures, detail=detail)


def _cells(setup: Setup) -> list[Cell]:
    if setup.quick:
        return [
            Cell(set="sst2", line=LINES[0], seed=0, shots=4, max_selection=8, max_report=16, arguments=QUICK_ARGUMENTS)
        ]
    return [Cell(set="sst2", line=line, seed=seed, shots=16, max_report=400) for seed in SEEDS for line in LINES]


if __name__ == "__main__":
    run_part(measure)
