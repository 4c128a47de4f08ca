"""The report that `superpos train` leaves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import err

if TYPE_CHECKING:
    from cli.stacked_training import NamedPlan


def report_training(plans: Sequence["NamedPlan"], above: Path) -> None:
    """Write one page about the runs that came to a result, into the folder that holds them, and tell where it is."""
    from training.report.writing import write_report
    from training.runs.files import REPORT, RESULT

    folders = [named.plan.folder for named in plans if (named.plan.folder / RESULT).exists()]
    if folders:
        with err.status("writing the report"):
            write_report(folders, above / REPORT)
        err.print(f"report: {above / REPORT}", markup=False)
