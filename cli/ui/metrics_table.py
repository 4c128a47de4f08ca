"""Tables of prompts and what they are worth, the best constant answer below them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from training.scoring.bootstrap import Interval
    from training.scoring.metrics import Metrics
    from training.task.scoring import Scoring


class MetricsTable:
    """Return a table of prompts on the same rows of one task: each metric, their mean, and the loss."""

    def __init__(self, title: str, scoring: "Scoring") -> None:
        from training.task.scoring import METRIC_TITLES

        titles: dict[str, str] = {name: METRIC_TITLES[name] for name in scoring.measured}
        if len(scoring.metrics) > 1:
            titles["score"] = "score"
        self._columns = tuple(titles)
        self._table = Table("prompt", *titles.values(), "loss (nats)", title=title)
        self._constant: list[str] | None = None

    def add(self, name: str, metrics: "Metrics", intervals: Mapping[str, "Interval"] | None = None) -> None:
        """One prompt's row, with the 95 % intervals of its metrics where they are known."""
        figures = metrics.figures()
        bounds = {} if intervals is None else {column: f" ({intervals[column]})" for column in self._columns}
        cells = [f"{figures[column]:.4f}{bounds.get(column, '')}" for column in (*self._columns, "loss")]
        self._table.add_row(name, *cells)
        self._constant = [f"{figures[f'constant_{column}']:.4f}" for column in self._columns]

    def add_mean(self, name: str, prompts: Sequence["Metrics"]) -> None:
        """Mean and standard deviation over prompts (population, as in the paper's Table 2)."""
        cells = []
        for column in (*self._columns, "loss"):
            values = [metrics.figures()[column] for metrics in prompts]
            cells.append(f"{statistics.fmean(values):.4f} ± {statistics.pstdev(values):.4f}")
        self._table.add_row(name, *cells)

    def add_section(self) -> None:
        """A line below the rows so far."""
        self._table.add_section()

    def finished(self) -> Table:
        """The table, with the best that one answer for every row would have been worth."""
        if self._constant is not None:
            self._table.add_section()
            self._table.add_row("best constant answer", *self._constant, style="dim")
        return self._table
