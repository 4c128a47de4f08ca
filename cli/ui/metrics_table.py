"""Tables of prompts with their metrics, above the best constant answer."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from adapters.baselines import Baseline
    from training.scoring.bootstrap import Interval
    from training.scoring.metrics import Metrics
    from training.scoring.multi_label import LabelFigures
    from training.task.scoring import Scoring


class MetricsTable:
    """A table with one row per prompt, scored on the same rows; columns are the metrics, their mean, and the loss."""

    def __init__(self, title: str, scoring: "Scoring") -> None:
        titles = scoring.titles
        if len(scoring.metrics) > 1:
            titles["score"] = "score"
        self._columns = tuple(titles)
        self._table = Table("prompt", *titles.values(), "loss (nats)", title=title)
        self._constant: list[str] | None = None

    def add(self, name: str, metrics: "Metrics", intervals: Mapping[str, "Interval"] | None = None) -> None:
        """Add a prompt, with the 95 % intervals of its metrics if given."""
        figures = metrics.figures()
        bounds = {} if intervals is None else {column: f" ({intervals[column]})" for column in self._columns}
        cells = [f"{figures[column]:.4f}{bounds.get(column, '')}" for column in (*self._columns, "loss")]
        self._table.add_row(name, *cells)
        self._constant = [f"{figures[f'constant_{column}']:.4f}" for column in self._columns]

    def add_mean(self, name: str, prompts: Sequence["Metrics"]) -> None:
        """Add the mean and population standard deviation over prompts, as in the paper's Table 2."""
        cells = []
        for column in (*self._columns, "loss"):
            values = [metrics.figures()[column] for metrics in prompts]
            cells.append(f"{statistics.fmean(values):.4f} ± {statistics.pstdev(values):.4f}")
        self._table.add_row(name, *cells)

    def add_baselines(self, baselines: Sequence["Baseline"]) -> None:
        """Add baselines on the same rows under a line, with their 95 % intervals; the constant answer has a row."""
        learned = [baseline for baseline in baselines if baseline.name != "constant"]
        if learned:
            self.add_section()
        for baseline in learned:
            cells = [baseline.told(column, digits=4) for column in (*self._columns, "loss")]
            self._table.add_row(baseline.title, *cells)

    def add_section(self) -> None:
        """Draw a line below the rows so far."""
        self._table.add_section()

    def finished(self) -> Table:
        """Return the table, with the best score of a constant answer as the last row."""
        if self._constant is not None:
            self._table.add_section()
            self._table.add_row("best constant answer", *self._constant, style="dim")
        return self._table


def labels_table(labels: Sequence["LabelFigures"]) -> Table:
    """Return a table of a multi-label task's labels, each decided by its own threshold."""
    table = Table("label", "rows", "threshold", "precision", "recall", "F1", "AP")
    for each in labels:
        precision = "–" if each.average_precision is None else f"{each.average_precision:.4f}"
        shares = [f"{share:.4f}" for share in (each.threshold, each.precision, each.recall, each.f1)]
        table.add_row(each.name, str(each.support), *shares, precision)
    return table
