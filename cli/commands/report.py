"""`superpos report`: an HTML page about finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import out
from training.report.page import write_report
from training.runs.layout import REPORT


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders that contain run folders.")
    ],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="The page. (default: report.html in the folder; with several, in this directory)"),
    ] = None,
) -> None:
    """Write one HTML page about finished runs, with its plots as SVG and PNG files next to it.

    It needs only the run folders: no network, no backbone and no training rows. With several runs, the page compares
    them and draws the mean and deviation over seeds and learning rates.

    \b
        superpos report runs/tickets-superpos-seed0
        superpos report runs/sst2-simple-6-runs
        superpos report runs/sst2-superpos-seed0 runs/sst2-simple-seed0 --out sst2.html
    """
    page = out_file or (runs[0] / REPORT if len(runs) == 1 else Path(REPORT))
    write_report(runs, page)
    out.print(str(page))
