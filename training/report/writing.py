"""`write_report`: from run folders to an HTML page, with its plots as files beside it."""

from collections.abc import Sequence
from pathlib import Path

from adapters.atomic_files import atomic_write
from training.report.comparison import NamedRun, best_run, named_runs
from training.report.page import Comparison, detailed, html
from training.report.plots import comparison_plots, run_plots
from training.report.reading import find_runs, read_run
from training.runs.layout import PLOTS


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write the report of one run or several; plots go into the folder `plots` beside it, as SVG and PNG.

    Args:
        paths: folders of runs, or folders that hold some
        out: the page's file

    Raises:
        InvalidData: no finished run is there, or a file of one is broken
    """
    runs = named_runs([read_run(path) for path in find_runs(paths)])
    tasks: dict[str, list[NamedRun]] = {}
    for run in runs:
        tasks.setdefault(run.record.task.name, []).append(run)
    comparisons = [
        Comparison(
            task=of_task[0].record.task,
            runs=of_task,
            best=best_run(of_task),
            plots=comparison_plots(of_task, suffix=f"--{name}" if len(tasks) > 1 else ""),
        )
        for name, of_task in tasks.items()
    ]
    shown = detailed(runs)
    plots = {
        run.name: run_plots(run.record, suffix=f"--run{number}" if len(runs) > 1 else "")
        for number, run in enumerate(runs, start=1)
        if run in shown
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write({out: html(comparisons, plots).encode()})
    folder = out.parent / PLOTS
    folder.mkdir(exist_ok=True)
    for group in [*(comparison.plots for comparison in comparisons), *plots.values()]:
        for plot in group:
            plot.write(folder)
