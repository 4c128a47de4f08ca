"""The tests that are marked `gpu`, which every other machine skips."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from rich.table import Table

from benchmarks.common.report import ROOT
from benchmarks.gpu.part import Measured, Setup, run_part
from cli.console import print_table

FOLDERS = ("tests/unit/backbone", "tests/unit/training/runs")
"""Folders with tests that are marked `gpu`; collecting all tests would take longer than they do."""


def measure(setup: Setup) -> Measured:
    """Return how many tests passed and were skipped; raise if one failed."""
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-m",
                "gpu",
                "-q",
                "-p",
                "no:cacheprovider",
                f"--junitxml={report}",
                *FOLDERS,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise RuntimeError(
                f"pytest -m gpu ended with status {ended.returncode}: {ended.stdout[-2_000:]}{ended.stderr[-2_000:]}"
            )
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    skipped, passed = int(suite.attrib["skipped"]), int(suite.attrib["tests"]) - int(suite.attrib["skipped"])
    if setup.device != "cpu" and not passed:
        raise RuntimeError(f"none of {skipped} tests ran on {setup.device}")
    table = Table("passed", "skipped")
    table.add_row(str(passed), str(skipped))
    print_table(table)
    return Measured(figures={"passed": passed, "skipped": skipped}, detail={"summary": ended.stdout.splitlines()[-1]})


if __name__ == "__main__":
    run_part(measure)
