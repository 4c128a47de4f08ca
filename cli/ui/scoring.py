"""Display of `superpos score`: the estimate, a progress bar with rows/s and time left, and the results."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from cli.ui.training import duration

if TYPE_CHECKING:
    from scoring.evaluation import Evaluation
    from scoring.job import Estimate
    from scoring.manifest import FileRecord
    from superpos_client import SuperposError

_WINDOW_S = 30.0
_SHOW_EVERY_S = 0.25
_LINE_EVERY_S = 30.0
"""Time between the lines of a log."""
_WAIT_LINE_EVERY_S = 10.0
"""Time between the lines about a server that is busy or away."""


class ScoringDisplay:
    """Shows the rows that are scored: a bar on a terminal; elsewhere, or with `plain`, a line now and then."""

    def __init__(self, console: Console, *, total: int, plain: bool) -> None:
        self._console, self._total = console, total
        self._plain = plain or not console.is_terminal
        self._rows = 0
        self._seen: deque[tuple[float, int]] = deque()
        self._shown_at = self._line_at = time.monotonic()
        self._wait_line_at = -math.inf
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=self._plain,
        )
        self._bar = self._progress.add_task("scoring", total=total, state="")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the bar within the block."""
        with self._progress:
            yield

    def scored(self, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._shown_at < _SHOW_EVERY_S:
            return
        self._shown_at = now
        self._seen.append((now, self._rows))
        while self._seen[0][0] < now - _WINDOW_S:
            self._seen.popleft()
        self._progress.update(self._bar, completed=self._rows, state=self._state())
        if self._plain and now - self._line_at >= _LINE_EVERY_S:
            self._line_at = now
            self._console.out(f"{self._rows:,} of {self._total:,} rows, {self._state()}", highlight=False)

    def finished(self, name: str, record: "FileRecord") -> None:
        rejected = f", {record.rejected:,} rejected" if record.rejected else ""
        self._console.print(f"{name}: {record.rows:,} rows{rejected}", style="dim")

    def waiting(self, seconds: float, error: "SuperposError") -> None:
        self._progress.update(self._bar, state=f"waiting {seconds:g} s: {error.reason}")
        now = time.monotonic()
        if self._plain and now - self._wait_line_at >= _WAIT_LINE_EVERY_S:
            self._wait_line_at = now
            self._console.out(f"waiting {seconds:g} s: {error.reason}", highlight=False)

    def _state(self) -> str:
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        rate = (last - first) / (now - began) if now > began else 0.0
        if rate <= 0:
            return ""
        return f"{rate:,.0f} rows/s, {duration(max(0, self._total - last) / rate)} left"


def estimate_line(estimate: "Estimate", *, done: int, price: float | None = None) -> str:
    """Format an estimate as one line.

    Args:
        estimate: of the rows that are left
        done: rows that were scored already
        price: of an hour of a worker's core or GPU
    """
    files = f"{estimate.num_files} file{'s' * (estimate.num_files != 1)}"
    finished = f" ({done:,} rows are scored already)" if done else ""
    if estimate.seconds is None:
        return f"{estimate.num_rows:,} rows in {files}{finished}"
    number = estimate.num_workers
    workers = "" if number is None else f" by {number:,} worker{'s' * (number != 1)}"
    cost = ""
    if (hours := estimate.device_hours) is not None:
        cost = f", {hours:,.2f} {estimate.device}-hours"
        if price is not None:
            cost += f", {hours * price:,.2f} at {price:g} per {estimate.device}-hour"
    rate = f" at {estimate.rows_per_s:,.0f} rows/s{workers}: {duration(estimate.seconds)}{cost}"
    return f"{estimate.num_rows:,} rows in {files}{rate}{finished}"


def evaluations_table(evaluations: Sequence["Evaluation"]) -> Table:
    """Make a table of tasks with their metrics, and the best constant answer's."""
    table = Table("task", "metric", "value", "best constant answer", "rows", "wrong")
    for found in evaluations:
        for number, figure in enumerate(found.figures):
            constant = "" if figure.constant is None else f"{figure.constant:.4f}"
            rows = (f"{found.num_rows:,}", f"{found.num_wrong:,}") if number == 0 else ("", "")
            table.add_row(found.ref if number == 0 else "", figure.title, str(figure), constant, *rows)
    return table


def confusion_table(found: "Evaluation", *, most: int = 10) -> Table | None:
    """Make a table of right labels against given ones; None without a matrix, or if it is too large to read."""
    if found.matrix is None or len(found.labels) > most:
        return None
    names = [label.name for label in found.labels]
    table = Table(f"right \\ given ({found.ref})", *names)
    for name, counts in zip(names, found.matrix.tolist(), strict=True):
        table.add_row(name, *map(str, counts))
    return table
