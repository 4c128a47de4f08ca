"""The paper's standardised overall score (Table 2, after Yu et al. 2023): methods on one scale over unlike tasks."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Overall:
    """Of one row, over the tasks: 0 is the worst row's score on a task, 100 the best row's."""

    mean: float
    std: float
    """Population standard deviation."""


def standardised(scores: Mapping[Row, Mapping[str, float]]) -> dict[Row, Overall]:
    """Min–max each task's scores over all rows, then mean and population deviation of each row over the tasks.

    A task on which all rows score the same tells them from each other in nothing, and is left out.

    Args:
        scores: of each row, the score of each task (the mean of its metrics); every row has the same tasks

    Returns:
        of each row its overall score in points; empty where no task tells rows apart
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
