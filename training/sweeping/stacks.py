"""Trains the trials of a stack together, each into a run folder of its own: what this process and a worker both do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from backbone import Backbone
from training.data.splits import Split
from training.loop.events import EvalEvent, TrainResult
from training.loop.train import train_stack
from training.runs.folder import RunFolder
from training.runs.run import RunOptions, prepare
from training.runs.task_rows import RunRows
from training.scoring.metrics import Metrics
from training.sweeping.study import Trial
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class SweepTask:
    """What all trials of a sweep train on: values alone, so that a worker elsewhere needs no file of ours."""

    task: TaskFile
    rows: RunRows
    split: Split
    limit: int | None

    def options(self, trial: Trial, folder: RunFolder) -> RunOptions:
        """A trial as a run."""
        return RunOptions(
            task=self.task,
            arguments=trial.arguments,
            folder=folder,
            split=self.split,
            limit=self.limit,
            rows=self.rows,
        )


def train_trials(
    backbone: Backbone,
    subject: SweepTask,
    trials: Sequence[Trial],
    folders: Sequence[RunFolder],
    *,
    should_prune: Callable[[int, EvalEvent, Metrics], bool],
) -> list[TrainResult]:
    """Train trials in one packed stack and record each in its folder; the report rows are not looked at.

    Args:
        should_prune: asked with a trial's number after each evaluation, as `TrainingJob.should_prune`

    Raises:
        KeyboardInterrupt: Ctrl-C, after which nothing of the stack counts
    """
    prepared = [
        prepare(backbone, subject.options(trial, folder)) for trial, folder in zip(trials, folders, strict=True)
    ]
    jobs = [
        replace(preparation.job, should_prune=partial(should_prune, trial.number))
        for preparation, trial in zip(prepared, trials, strict=True)
    ]
    results = train_stack(backbone, jobs)
    if any(result.stop == "interrupted" for result in results):
        raise KeyboardInterrupt
    for preparation, result in zip(prepared, results, strict=True):
        assert preparation.recorder is not None
        preparation.recorder.finish(backbone, result)
    return results
