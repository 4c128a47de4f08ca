"""`superpos report`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import out, report_errors


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or folders that hold some.")
    ],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="The page. (default: report.html in the folder, or here where there are several)"),
    ] = None,
) -> None:
    """Write one HTML page about runs, from their folders alone, with the plots as SVG and PNG beside it.

    It needs no network, no other file, and neither the backbone nor the rows. Several runs are compared: seeds and
    rates in one learning curve, with mean and deviation.

    \b
        superpos report runs/tickets-superpos-seed0
        superpos report runs/sst2-simple-6-runs
        superpos report runs/sst2-superpos-seed0 runs/sst2-simple-seed0 --out sst2.html
    """
    from training.errors import TrainingError
    from training.report.writing import write_report
    from training.runs.layout import REPORT

    with report_errors(TrainingError):
        page = out_file or (runs[0] / REPORT if len(runs) == 1 else Path(REPORT))
        write_report(runs, page)
        out.print(str(page), markup=False)
