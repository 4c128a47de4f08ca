"""Comparison of runs: their differences, their groups, their curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config.recipes import cost_rank
from training.report.figures import Curve
from training.report.reading import RunRecord
from training.report.settings import varying_parts

MAX_POINTS = 60
"""Maximum number of points of a loss curve; more steps are averaged in equal intervals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedRun:
    """A run with the names that it has among others."""

    name: str
    """Unique among them."""
    group: str
    """Settings that it shares with runs of other seeds or folds."""
    record: RunRecord


def named_runs(records: Sequence[RunRecord]) -> list[NamedRun]:
    """Names out of what differs: task, settings, seed, fold; where that is not enough, the folder."""
    tasks = {record.task.name for record in records}
    groups, names = [], []
    for record, parts in zip(records, varying_parts(records), strict=True):
        group = ", ".join(parts) or (record.task.name if len(tasks) > 1 else str(record.arguments.get("method", "run")))
        groups.append(group)
        seed = f"seed {record.arguments.get('seed')}"
        fold = [f"fold {record.run['data']['fold']}"] if "fold" in record.run.get("data", {}) else []
        first = [record.task.name] if len(tasks) > 1 else []
        names.append(", ".join([*first, *parts, seed, *fold]))
    if len(set(names)) < len(names):
        names = [f"{name} ({record.path.name})" for name, record in zip(names, records, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} #{number}" for number, name in enumerate(names, start=1)]
    return [
        NamedRun(name=name, group=group, record=record)
        for name, group, record in zip(names, groups, records, strict=True)
    ]


def best_run(runs: Sequence[NamedRun]) -> NamedRun:
    """Return the run that its selection rows say is best; of equals the cheaper one, then that of the lower loss."""

    def rank(run: NamedRun) -> tuple[object, ...]:
        arguments, metrics = run.record.arguments, run.record.metrics
        cost = cost_rank(str(arguments["method"]), str(arguments.get("readout", "words")))
        return -metrics["selection_score"], cost, metrics["selection_loss"]

    return min(runs, key=rank)


def score_curves(runs: Sequence[NamedRun]) -> list[Curve]:
    """The selection score at each evaluation."""
    return [
        Curve(
            run.group,
            np.array([line["step"] for line in run.record.evaluations], dtype=np.float64),
            np.array([line["score"] for line in run.record.evaluations], dtype=np.float64),
        )
        for run in runs
    ]


def loss_curves(runs: Sequence[NamedRun]) -> list[Curve]:
    """The training loss, averaged over stretches of steps."""
    return [Curve(run.group, *_thinned(run.record.steps)) for run in runs if len(run.record.steps)]


def _thinned(steps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `MAX_POINTS` points: the mean step and the mean loss of each stretch."""
    stretches = np.array_split(steps, min(MAX_POINTS, len(steps)))
    means = np.array([stretch.mean(axis=0) for stretch in stretches])  # [n, 2]
    return means[:, 0], means[:, 1]
