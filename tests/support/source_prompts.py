"""A library of source prompts that is trained in seconds: two tasks, two seeds."""

import dataclasses
from pathlib import Path

from backbone import Backbone
from support.threads import on_one_thread
from support.training import QUICK, easy_task
from training.runs.executor import train_runs
from training.runs.plan import plan_runs
from training.task.task_file import TaskFile

SIMPLE = dataclasses.replace(QUICK, method="simple", lr=0.3, epochs=2)
TASKS = ("first", "second")


def library_tasks(folder: Path) -> list[TaskFile]:
    """Tasks with rows of their own."""
    tasks = []
    for name in TASKS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        tasks.append(easy_task(folder / name).model_copy(update={"name": name}))
    return tasks


def make_library(backbone: Backbone, folder: Path) -> Path:
    """Train the prompts of a library, and return its folder."""
    variants = [(dataclasses.replace(SIMPLE, seed=seed), None) for seed in (0, 1)]
    above, plans = plan_runs(
        library_tasks(folder / "rows"),
        variants,
        folder / "library",
        split="honest",
        limit=48,
        precision="fp32",
        resume=False,
        baselines=False,
    )
    with on_one_thread():
        train_runs(backbone, [dataclasses.replace(plan, compare_precisions=False) for plan in plans])
    return above
