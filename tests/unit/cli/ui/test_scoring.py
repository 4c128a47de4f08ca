"""The line that says how long a job takes, and what it costs, before it starts."""

import pytest

from cli.ui.scoring import estimate_line
from scoring.job import Estimate


@pytest.mark.parametrize(
    ("estimate", "price", "line"),
    [
        (Estimate(1, 40, None), None, "40 rows in 1 file"),
        (Estimate(2, 7_200, 72.0), None, "7,200 rows in 2 files at 72 rows/s: 1:40"),
        (
            Estimate(3, 1_000_000_000, 35_000.0, num_workers=1_000),
            None,
            "1,000,000,000 rows in 3 files at 35,000 rows/s by 1,000 workers: 7:56:11, 7,936.51 core-hours",
        ),
        (
            Estimate(1, 360_000, 100.0, num_workers=1, devices=4),
            0.05,
            "360,000 rows in 1 file at 100 rows/s by 1 worker: 1:00:00, 4.00 core-hours, 0.20 at 0.05 per core-hour",
        ),
        (
            Estimate(1, 360_000, 200.0, num_workers=2, device="GPU"),
            3.0,
            "360,000 rows in 1 file at 200 rows/s by 2 workers: 30:00, 1.00 GPU-hours, 3.00 at 3 per GPU-hour",
        ),
    ],
)
def test_an_estimate_has_the_time_and_on_a_cluster_the_cost(estimate: Estimate, price: float | None, line: str) -> None:
    assert estimate_line(estimate, done=0, price=price) == line


def test_an_estimate_names_the_rows_that_are_scored_already() -> None:
    assert estimate_line(Estimate(1, 60, None), done=40) == "60 rows in 1 file (40 rows are scored already)"
