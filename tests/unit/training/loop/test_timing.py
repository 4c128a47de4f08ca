"""What a run says that it took: true of each prompt of a stack, whatever the others do, and of one that went on."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.training import QUICK, easy_rows, easy_task, write_rows

from backbone import Backbone
from training.config.arguments import TrainArguments
from training.data.splits import Split
from training.loop.events import StepEvent
from training.runs.executor import Event, train_runs
from training.runs.folder import RunFolder
from training.runs.layout import COST
from training.runs.plan import RunPlan
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(QUICK, epochs=3, eval_every=3)


def plan_of(
    task: TaskFile, folder: Path, arguments: TrainArguments = SHORT, *, split: Split = "honest", limit: int | None = 60
) -> RunPlan:
    return RunPlan(task=task, arguments=arguments, folder=folder, split=split, limit=limit)


def many_selection_rows(folder: Path) -> TaskFile:
    """A task with a hundred times as many rows to choose by as the others here have; for the paper's split."""
    folder.mkdir()
    task = easy_task(folder).model_copy(update={"name": "heavy"})
    write_rows(Path(str(task.data.validation)), easy_rows(1_200, seed=5))
    return task


def cost_of(plan: RunPlan) -> dict[str, Any]:
    cost: dict[str, Any] = json.loads((plan.folder / COST).read_text(encoding="utf-8"))
    return cost


def interrupt(number: int, event: Event) -> None:
    if isinstance(event, StepEvent) and event.step == 8:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_one_prompts_evaluations_are_no_time_of_anothers_nor_of_training(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    heavy = plan_of(many_selection_rows(tmp_path / "heavy-data"), tmp_path / "heavy", split="paper")
    light = [plan_of(task, tmp_path / f"light{seed}", dataclasses.replace(SHORT, seed=seed)) for seed in (1, 2)]
    began = time.monotonic()
    train_runs(tiny, [light[0], heavy, light[1]])
    wall_s = time.monotonic() - began
    costs = [cost_of(plan) for plan in (light[0], heavy, light[1])]
    # the same steps: the same seconds of training, before the one that evaluates long and after it
    assert len({cost["training_s"] for cost in costs}) == 1
    assert {(cost["steps"], cost["rows"], cost["stack_size"]) for cost in costs} == {(15, 180, 3)}
    evaluations = [cost["evaluation_s"] for cost in costs]
    assert evaluations[1] > 5 * max(evaluations[0], evaluations[2])
    assert costs[0]["training_s"] + sum(evaluations) <= wall_s
    assert all(cost["rows_per_s"] == pytest.approx(180 / cost["training_s"], rel=0.02) for cost in costs)


@pytest.mark.slow
def test_a_prompt_that_leaves_the_stack_has_no_part_in_what_comes_after(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    short = plan_of(task, tmp_path / "short", dataclasses.replace(SHORT, max_steps=1))
    long = plan_of(task, tmp_path / "long")
    train_runs(tiny, [short, long])
    assert (cost_of(short)["steps"], cost_of(long)["steps"]) == (1, 15)
    assert cost_of(short)["training_s"] < cost_of(long)["training_s"]


@pytest.mark.slow
def test_a_stack_that_was_interrupted_adds_up_to_one_that_was_not(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    heavy = plan_of(many_selection_rows(tmp_path / "heavy-data"), tmp_path / "heavy", split="paper")
    light = plan_of(task, tmp_path / "light")
    train_runs(tiny, [light, heavy], on_event=interrupt)
    until = [cost_of(plan) for plan in (light, heavy)]
    assert until[0]["steps"] == 8
    train_runs(tiny, [light, heavy])
    first, second = (cost_of(plan) for plan in (light, heavy))
    assert (first["steps"], first["rows"]) == (second["steps"], second["rows"]) == (15, 180)
    assert first["training_s"] == second["training_s"] > until[0]["training_s"] / 2
    assert first["evaluation_s"] < second["evaluation_s"] / 5
    assert second["evaluation_s"] > until[1]["evaluation_s"]


@pytest.mark.slow
def test_a_run_that_is_finished_takes_no_part_in_a_stack(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    done = plan_of(task, tmp_path / "done", dataclasses.replace(SHORT, max_steps=1))
    new = plan_of(task, tmp_path / "new", dataclasses.replace(SHORT, max_steps=1, seed=1))
    train_runs(tiny, [done])
    train_runs(tiny, [done, new])
    assert RunFolder(done.folder, resume=True).is_finished
    assert (cost_of(done)["stack_size"], cost_of(new)["stack_size"]) == (1, 1)
