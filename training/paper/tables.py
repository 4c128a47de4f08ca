"""Results as the paper's tables: one line per variant, one cell per task with the mean over seeds, in points."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from training.config.arguments import unused_arguments
from training.paper.published import PAPER_TASKS, PublishedRow, table1, table3
from training.paper.results import CellResult, Results
from training.paper.variants import ANY_STARTS, variant

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Overall:
    """A row's standardised score: on each task the worst row has 0 and the best row 100."""

    mean: float
    std: float
    """Population standard deviation."""


def standardised(scores: Mapping[Row, Mapping[str, float]]) -> dict[Row, Overall]:
    """Return the paper's standardised overall score (Table 2, after Yu et al. 2023).

    Each task's scores are scaled to 0–100 over all rows; the mean and population deviation are taken over the tasks. A
    task on which all rows score the same is left out.

    Args:
        scores: score per task (the mean of its metrics) of each row; every row has the same tasks

    Returns:
        the overall score of each row in points; empty if no task distinguishes rows
    """
    rows = list(scores.values())
    tasks = [task for task in rows[0] if len({row[task] for row in rows}) > 1] if rows else []
    if not tasks:
        return {}
    low = {task: min(row[task] for row in rows) for task in tasks}
    high = {task: max(row[task] for row in rows) for task in tasks}

    def overall(row: Mapping[str, float]) -> Overall:
        points = [100 * (row[task] - low[task]) / (high[task] - low[task]) for task in tasks]
        return Overall(statistics.fmean(points), statistics.pstdev(points))

    return {name: overall(row) for name, row in scores.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A variant on a task: the score over its seeds, in points."""

    mean: float
    std: float
    """Population standard deviation."""
    num_seeds: int
    num_collapsed: int
    """Seeds whose prompt gave every report row the same answer."""

    def __str__(self) -> str:
        spread = f" ± {self.std:.1f}" if self.num_seeds > 1 else ""
        return f"{self.mean:.1f}{spread}" + (" ‡" if self.num_collapsed else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One variant's line."""

    variant: str
    title: str
    lr: float | None
    """None if nothing is trained."""
    dropout: bool
    entries: dict[str, Entry]
    """By task; those without a finished run are not there."""
    overall: Overall | None
    """Standardised over the lines that have all tasks; None for the others."""

    @property
    def average(self) -> float | None:
        """Mean of the tasks' scores; None without any."""
        return statistics.fmean(entry.mean for entry in self.entries.values()) if self.entries else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Lines over tasks, with what a constant answer gets on each task's report rows, in points."""

    tasks: tuple[str, ...]
    lines: tuple[Line, ...]
    constant: dict[str, float]
    untrained: dict[str, float]
    """The mean over variants and seeds of the prompt before training: they start from different tokens."""
    published: tuple[PublishedRow, ...]
    """The paper's own lines with the same backbone, and below them GPT-3.5's; empty for another backbone."""


def make_table(results: Results, names: Sequence[str]) -> Table:
    """The table of some variants, those without any finished run left out."""
    of_names = [cell for cell in results.cells if cell.variant in names]
    tasks = ordered_tasks(of_names)
    entries = {name: {task: _entry(results.of(variant=name, task=task)) for task in tasks} for name in names}
    known = {name: {t: e for t, e in row.items() if e is not None} for name, row in entries.items()}
    whole = {name: {t: e.mean for t, e in row.items()} for name, row in known.items() if len(row) == len(tasks)}
    overall = standardised(whole) if len(whole) > 1 else {}
    lines = tuple(_line(name, row, overall.get(name)) for name, row in known.items() if row)
    return Table(
        tasks=tasks,
        lines=lines,
        constant={task: _mean(of_names, task, lambda cell: cell.report["constant_score"]) for task in tasks},
        untrained={task: _mean(of_names, task, lambda cell: cell.untrained["score"]) for task in tasks},
        published=_published(results.backbone.id),
    )


def _published(backbone: str) -> tuple[PublishedRow, ...]:
    own = tuple(row for row in (*table1(), *table3()) if row.backbone == backbone)
    return (*own, *(row for row in table3() if row.dropout is None)) if own else ()


def ordered_tasks(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The cells' tasks in the paper's order, others after them."""
    found = {cell.task for cell in cells}
    return (*(task for task in PAPER_TASKS if task in found), *sorted(found - set(PAPER_TASKS)))


def _line(name: str, entries: dict[str, Entry], overall: Overall | None) -> Line:
    named = variant(name, ANY_STARTS)
    return Line(
        variant=name,
        title=named.title,
        lr=None if "lr" in unused_arguments(named.arguments.method, "words") else named.arguments.lr,
        dropout=named.arguments.dropout,
        entries=entries,
        overall=overall,
    )


def _entry(cells: Sequence[CellResult]) -> Entry | None:
    if not cells:
        return None
    scores = [100 * cell.report["score"] for cell in cells]
    return Entry(
        mean=statistics.fmean(scores),
        std=statistics.pstdev(scores),
        num_seeds=len(cells),
        num_collapsed=sum(cell.collapsed for cell in cells),
    )


def _mean(cells: Sequence[CellResult], task: str, figure: Callable[[CellResult], float]) -> float:
    return 100 * statistics.fmean(figure(cell) for cell in cells if cell.task == task)
