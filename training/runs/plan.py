"""Runs as they are planned, before anything is read: values that can travel to another process, and their training."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backbone import Backbone, Precision
from training.config.arguments import TrainArguments
from training.data.folds import Fold
from training.data.splits import Split
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, Stop
from training.runs.folder import RunFolder
from training.runs.lock import locked
from training.runs.run import RunOptions, finish, prepare, train_prepared
from training.runs.scorer import Scorer
from training.runs.task_rows import TaskRows
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class EndEvent:
    """Training has ended, the run's own and that of all in its stack; each is scored when its turn comes."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class ScoreEvent:
    """What the run came to is being scored on its report rows."""


Event = StepEvent | EvalEvent | RestoreEvent | EndEvent | ScoreEvent
Watch = Callable[[int, Event], None]
"""Told of what a run, named by its place among the plans, does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run to make in a folder, or to go on with where the folder has it half done."""

    task: TaskFile
    arguments: TrainArguments
    folder: Path
    split: Split
    fold: Fold | None
    limit: int | None
    precision: Precision = "fp32"
    tensorboard: bool = False


def train_plans(backbone: Backbone, plans: Sequence[RunPlan], *, watch: Watch) -> None:
    """Train all that is not finished in one stack; each run is written into its folder. Raises as `run_training`.

    Args:
        backbone: in float32; all plans name one precision to train in

    Raises:
        InvalidCheckpoint: a folder holds another run than is planned, or a damaged one
        FolderInUse: another process trains in one of the folders
    """
    with ExitStack() as held:
        for plan in plans:
            held.enter_context(locked(plan.folder))
        _train_locked(backbone, plans, watch)


def _train_locked(backbone: Backbone, plans: Sequence[RunPlan], watch: Watch) -> None:
    tasks: dict[str, TaskRows] = {}
    prepared = []
    for number, plan in enumerate(plans):
        key = plan.task.model_dump_json()
        if key not in tasks:
            tasks[key] = TaskRows(backbone, plan.task)
        rows = tasks[key].divided(split=plan.split, seed=plan.arguments.seed, fold=plan.fold, limit=plan.limit)
        options = RunOptions(
            task=plan.task,
            arguments=plan.arguments,
            folder=RunFolder(plan.folder, resume=True),
            split=plan.split,
            fold=plan.fold,
            limit=plan.limit,
            precision=plan.precision,
            rows=rows,
            tensorboard=plan.tensorboard,
            on_step=partial(watch, number),
            on_evaluation=partial(watch, number),
            on_restore=partial(watch, number),
        )
        prepared.append(prepare(backbone, options))
    left = {number: run for number, run in enumerate(prepared) if not run.options.folder.is_finished}
    results = train_prepared(backbone, list(left.values()))
    for number, result in zip(left, results, strict=True):
        watch(number, EndEvent(result.stop))
    scorer = Scorer(backbone)
    for (number, run), result in zip(left.items(), results, strict=True):
        watch(number, ScoreEvent())
        finish(scorer, run, result)
