"""Tables of prompts and what they are worth, the best constant answer below them."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from training.metrics import Metrics, Scoring


class MetricsTable:
    """A row a prompt, all over the same rows of one task; a column a metric, the mean of the task's, and the loss."""

    def __init__(self, title: str, scoring: "Scoring") -> None:
        from training.metrics import METRIC_TITLES

        self._scoring = scoring
        self._has_score = len(scoring.metrics) > 1
        titles = [METRIC_TITLES[name] for name in scoring.measured] + ["score"] * self._has_score
        self._table = Table("prompt", *titles, "loss (nats)", title=title)
        self._constant: tuple[float, ...] | None = None

    def add(self, name: str, metrics: "Metrics") -> None:
        """One prompt's row."""
        self._table.add_row(name, *(f"{value:.4f}" for value in self._cells(metrics)))
        scores = [metrics.constant_score] if self._has_score else []
        self._constant = (*(metrics.constants[metric] for metric in self._scoring.measured), *scores)

    def add_mean(self, name: str, prompts: Sequence["Metrics"]) -> None:
        """Mean and standard deviation over prompts (population, as in the paper's Table 2)."""
        columns = zip(*(self._cells(metrics) for metrics in prompts), strict=True)
        cells = [f"{statistics.fmean(column):.4f} ± {statistics.pstdev(column):.4f}" for column in columns]
        self._table.add_row(name, *cells)

    def add_section(self) -> None:
        """A line below the rows so far."""
        self._table.add_section()

    def finished(self) -> Table:
        """The table, with the best that one answer for every row would have been worth."""
        if self._constant is not None:
            self._table.add_section()
            self._table.add_row("best constant answer", *(f"{value:.4f}" for value in self._constant), style="dim")
        return self._table

    def _cells(self, metrics: "Metrics") -> tuple[float, ...]:
        scores = [metrics.score] if self._has_score else []
        return (*(metrics.values[metric] for metric in self._scoring.measured), *scores, metrics.loss)
