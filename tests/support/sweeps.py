"""What tests of sweeps build with: a plan that ends in seconds, and a sweep of it in a folder."""

import dataclasses
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from backbone import Backbone, load
from support.training import QUICK
from training.loop.events import EvalEvent
from training.sweeping.launch import open_sweep, read_sweep_task
from training.sweeping.space import SearchSpace
from training.sweeping.stacks import SweepTask
from training.sweeping.study import Trial
from training.sweeping.sweep import EndedTrial, Sweep, SweepPlan
from training.task.task_file import TaskFile


def load_or_die(source: str, cache_dir: Path, dying: Path) -> Backbone:
    """Loads a backbone on a worker; the first that finds the file takes it away and dies."""
    if dying.exists():
        dying.unlink()
        os._exit(1)
    return load(source, cache_dir=cache_dir)


def die() -> Backbone:
    """Loads no backbone on any worker."""
    os._exit(1)


PLAN = SweepPlan(
    space=SearchSpace(methods=("superpos", "simple"), lr=(1e-6, 0.05), num_sampled_tokens=(32,)),
    fixed=dataclasses.replace(QUICK, epochs=3),
    trials=4,
    parallel=2,
    metric="accuracy",
    pruner="none",
)


def subject_of(backbone: Backbone, task: TaskFile, plan: SweepPlan = PLAN) -> SweepTask:
    return read_sweep_task(backbone, task, plan, split="paper", limit=60)


def sweep_in(
    folder: Path,
    task: SweepTask,
    plan: SweepPlan = PLAN,
    *,
    resume: bool = False,
    on_evaluation: Callable[[Trial, EvalEvent], None] = lambda trial, event: None,
    on_end: Callable[[EndedTrial], None] = lambda trial: None,
) -> AbstractContextManager[Sweep]:
    """A sweep whose files are closed at the end."""
    return open_sweep(
        plan,
        task,
        folder,
        fingerprint="sha256:tiny",
        resume=resume,
        on_evaluation=on_evaluation,
        on_end=lambda _, trial: on_end(trial),
    )
