"""Training of a sweep's trials in one stack, each into its own run folder, in this process or on a Ray worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone import Backbone
from training.data.splits import Split
from training.loop.events import EvalEvent, TrainResult
from training.runs.executor import train_unscored
from training.runs.plan import RunPlan
from training.runs.task_rows import RunRows
from training.scoring.metrics import Metrics
from training.sweeping.study import Trial
from training.task.task_file import TaskFile

ShouldPrune = Callable[[int, EvalEvent, Metrics], bool]
"""Called with a trial's number, its last evaluation and its best metrics; True ends the trial."""


@dataclass(frozen=True, slots=True)
class SweepTask:
    """The task and rows that all trials of a sweep train on: values only, so that a worker elsewhere needs no file."""

    task: TaskFile
    rows: RunRows
    split: Split
    limit: int | None
    sources: tuple[str, ...] = ()
    """Digests of the adapters that the trials start from."""

    def plan(self, trial: Trial, folder: Path) -> RunPlan:
        """Plan a trial as a run."""
        return RunPlan(
            task=self.task,
            arguments=trial.arguments,
            folder=folder,
            split=self.split,
            limit=self.limit,
            rows=self.rows,
        )


def train_trials(
    backbone: Backbone,
    sweep_task: SweepTask,
    trials: Sequence[Trial],
    folders: Sequence[Path],
    *,
    should_prune: ShouldPrune,
    on_checkpoint: Callable[[], None] | None = None,
) -> list[TrainResult]:
    """Train trials in one packed stack and record each in its folder, without reading the report rows.

    Args:
        backbone: in float32
        sweep_task: the task and its rows
        trials: of the stack
        folders: one per trial
        should_prune: decides about a trial after each evaluation
        on_checkpoint: called after each generation of checkpoints, from which the stack resumes; None writes none

    Raises:
        KeyboardInterrupt: Ctrl-C; no trial of the stack has a result
    """
    return train_unscored(
        backbone,
        [sweep_task.plan(trial, folder) for trial, folder in zip(trials, folders, strict=True)],
        should_prune=lambda index, event, best: should_prune(trials[index].number, event, best),
        on_checkpoint=on_checkpoint,
    )
