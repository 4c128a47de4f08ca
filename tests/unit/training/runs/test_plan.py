"""Planned runs of one command: what they share is computed once, and they tell what is done when they have trained."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.training import QUICK

import training.runs.scorer
from backbone import Backbone, Precision
from training.loop.events import EvalEvent
from training.runs.executor import EndEvent, Event, ScoreEvent, train_runs
from training.runs.plan import RunPlan
from training.runs.run_result import read_run_result
from training.scoring.metrics import Metrics
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def plans_of(task: TaskFile, folder: Path) -> list[RunPlan]:
    """Two rates of one seed, and another seed."""
    short = dataclasses.replace(QUICK, epochs=1)
    variants = (short, dataclasses.replace(short, lr=0.1), dataclasses.replace(short, seed=1))
    return [
        RunPlan(task=task, arguments=arguments, folder=folder / str(number), limit=24, baselines=False)
        for number, arguments in enumerate(variants)
    ]


def test_each_run_tells_that_training_has_ended_and_when_it_is_scored(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    told: list[tuple[int, Event]] = []
    train_runs(tiny, plans_of(task, tmp_path), on_event=lambda number, event: told.append((number, event)))
    last_evaluation = max(i for i, (_, event) in enumerate(told) if isinstance(event, EvalEvent))
    ends = [(number, EndEvent("finished")) for number in range(3)]
    assert told[last_evaluation + 1 :] == [*ends, *((number, ScoreEvent()) for number in range(3))]


def test_a_start_is_scored_once_for_all_that_share_it_and_int8_is_made_once(
    tiny: Backbone, task: TaskFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, converted = [], []
    evaluate, in_precision = training.runs.scorer.evaluate, Backbone.in_precision

    def counted(*given: Any, **named: Any) -> Metrics:
        scored.append(given)
        return evaluate(*given, **named)

    def counted_in_precision(backbone: Backbone, precision: Precision) -> Backbone:
        converted.append(precision)
        return in_precision(backbone, precision)

    monkeypatch.setattr(training.runs.scorer, "evaluate", counted)
    monkeypatch.setattr(Backbone, "in_precision", counted_in_precision)
    plans = plans_of(task, tmp_path)
    train_runs(tiny, plans)
    assert len(scored) == 2, "one start of each seed"
    assert converted.count("int8") == 1
    first, same_start, other = (read_run_result(plan.folder).untrained for plan in plans)
    assert first == same_start != other
