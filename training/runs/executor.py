"""Execution of planned runs: lock the folder, prepare, train the stack, score and write each run.

`superpos train` (cross-validation included), sweeps and the paper's grids all train here.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from adapters.baselines import BaselineName
from adapters.errors import AdapterError
from backbone import Backbone, BackboneError
from training.errors import TrainingError
from training.loop.checkpoint import Checkpoints, remove_checkpoints
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, Stop, TrainResult
from training.loop.train import train_stack
from training.runs.folder import RunFolder, locked
from training.runs.plan import RunPlan
from training.runs.run import Preparation, RunReport, begin, finish, prepare
from training.runs.scorer import Scorer
from training.runs.task_rows import TaskRows
from training.scoring.metrics import Metrics

FAILURES = (TrainingError, AdapterError, BackboneError, RuntimeError, ValueError, OSError)
"""Errors that fail a single run. PyTorch's own errors, including out of memory, are `RuntimeError`s."""


@dataclass(frozen=True, slots=True)
class RowsEvent:
    """The run's rows have been read and divided."""

    notes: tuple[str, ...]
    """Notes for the author on them, one line each; runs of one task repeat each other's."""


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The run's stack has been trained; each of its runs is scored in turn."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class ScoreEvent:
    """The run is being scored on its report rows."""


@dataclass(frozen=True, slots=True)
class BaselineEvent:
    """A baseline is being fitted to the run's rows."""

    name: BaselineName


@dataclass(frozen=True, slots=True)
class FailEvent:
    """The run failed; the others continue."""

    reason: str


Event = RowsEvent | StepEvent | EvalEvent | RestoreEvent | EndEvent | ScoreEvent | BaselineEvent | FailEvent
OnEvent = Callable[[int, Event], None]
"""Called with a run's index among the plans and what happened to it."""
ShouldPrune = Callable[[int, EvalEvent, Metrics], bool]


def resumed(plan: RunPlan) -> RunFolder:
    """Open a plan's folder to start its run, or to resume the run that it holds."""
    return RunFolder(plan.folder, resume=True)


def train_runs(
    backbone: Backbone,
    plans: Sequence[RunPlan],
    *,
    on_event: OnEvent = lambda number, event: None,
    on_report: Callable[[int, RunReport], None] = lambda number, report: None,
    open_folder: Callable[[RunPlan], RunFolder | None] = resumed,
    scorer: Scorer | None = None,
    resumable: bool = True,
    on_checkpoint: Callable[[], None] = lambda: None,
    isolate_failures: bool = False,
) -> list[RunReport]:
    """Train all runs that are not finished in one stack, score them, and write each into its folder.

    Args:
        backbone: in float32; all plans have one precision to train in
        on_report: called with each run once its folder is complete
        open_folder: opens a run's folder, whose lock is held; returns None for a run that needs no training
        scorer: shared between calls, so that what their runs have in common is computed once
        resumable: write checkpoints, and also score a run that Ctrl-C ended; otherwise such a run leaves no result
        on_checkpoint: called after each generation of checkpoints in the folders
        isolate_failures: report what fails in one run as a `FailEvent` and continue with the others

    Returns:
        reports of the runs that were trained now

    Raises:
        InvalidData: a data file or row is invalid
        InvalidArguments: no adapter could be made of a run
        InvalidCheckpoint: a folder holds another run than the plan's, or a damaged one
        FolderInUse: another process trains in one of the folders
        backbone.InvalidLabels: the backbone's tokenizer cannot tell the label words apart
        backbone.DeviceUnavailable: the device does not compute in the precision
        KeyboardInterrupt: Ctrl-C, where `resumable` is False
    """
    execution = _Execution(
        scorer=scorer or Scorer(backbone),
        plans=plans,
        on_event=on_event,
        on_report=on_report,
        open_folder=open_folder,
        resumable=resumable,
        on_checkpoint=on_checkpoint,
        failures=FAILURES if isolate_failures else (),
    )
    return execution.run(range(len(plans)))


def train_unscored(
    backbone: Backbone,
    plans: Sequence[RunPlan],
    *,
    should_prune: ShouldPrune,
    on_checkpoint: Callable[[], None] | None = None,
) -> list[TrainResult]:
    """Train runs in one stack, and leave their report rows unseen; `score_trained` scores one.

    Args:
        backbone: in float32
        plans: of the runs
        should_prune: called with a run's index after each evaluation but the first and the last, and its best metrics;
            True ends the run
        on_checkpoint: called after each generation of checkpoints in the folders; the stack resumes from one that they
            hold. None writes no checkpoints

    Raises:
        KeyboardInterrupt: Ctrl-C; no run of the stack has a result
    """
    resumable = on_checkpoint is not None
    runs = [
        begin(
            backbone,
            prepare(backbone, plan, RunFolder(plan.folder, resume=resumable)),
            should_prune=partial(should_prune, number),
        )
        for number, plan in enumerate(plans)
    ]
    results = train_prepared(backbone, runs, resumable=resumable, on_checkpoint=on_checkpoint or (lambda: None))
    if any(result.stop == "interrupted" for result in results):
        raise KeyboardInterrupt
    for run, result in zip(runs, results, strict=True):
        run.record(backbone, result)
        remove_checkpoints(run.folder.path)
    return results


def score_trained(backbone: Backbone, plan: RunPlan, result: TrainResult) -> RunReport:
    """Score what `train_unscored` made of a plan on its report rows, and write its adapter."""
    return finish(Scorer(backbone), prepare(backbone, plan, resumed(plan)), result)


def train_prepared(
    frozen: Backbone,
    runs: Sequence[Preparation],
    *,
    resumable: bool = True,
    on_checkpoint: Callable[[], None] = lambda: None,
) -> list[TrainResult]:
    """Train runs in one stack, from their checkpoints where their folders have some.

    Args:
        frozen: in the precision that all runs train in
        runs: prepared and begun
        resumable: write checkpoints into the folders
        on_checkpoint: called after each generation of them

    Raises:
        InvalidCheckpoint: a checkpoint cannot be read
    """
    folders = [run.folder.path for run in runs] if resumable else []
    checkpoints = Checkpoints(folders, on_written=on_checkpoint)
    return train_stack(frozen, [run.job for run in runs], checkpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Execution:
    """One call of `train_runs`; runs are named by their index among the plans."""

    scorer: Scorer
    plans: Sequence[RunPlan]
    on_event: OnEvent
    on_report: Callable[[int, RunReport], None]
    open_folder: Callable[[RunPlan], RunFolder | None]
    resumable: bool
    on_checkpoint: Callable[[], None]
    failures: tuple[type[Exception], ...]
    """Errors that fail a single run only."""

    def run(self, numbers: Iterable[int]) -> list[RunReport]:
        """Train and score one stack; where the stack fails as a whole, each of its runs alone."""
        began_s = time.monotonic()
        with ExitStack() as locks:
            runs = self._prepare(numbers, locks)
            precisions = {run.plan.precision for run in runs.values()}
            try:
                frozen = self.scorer.in_precision(*precisions or {"fp32"})
                results = train_prepared(
                    frozen, list(runs.values()), resumable=self.resumable, on_checkpoint=self.on_checkpoint
                )
            except self.failures as exc:
                if len(runs) == 1:
                    self._fail(next(iter(runs)), exc)
                    return []
            else:
                return self._score(runs, results, share_s=(time.monotonic() - began_s) / max(1, len(runs)))
        return [report for number in runs for report in self.run([number])]

    def _prepare(self, numbers: Iterable[int], locks: ExitStack) -> dict[int, Preparation]:
        runs = {}
        tasks: dict[str, TaskRows] = {}
        for number in numbers:
            plan = self.plans[number]
            try:
                locks.enter_context(locked(plan.folder))
                if (folder := self.open_folder(plan)) is None:
                    continue
                key = plan.task.model_dump_json()
                if plan.rows is None and key not in tasks:
                    tasks[key] = TaskRows(self.scorer.backbone, plan.task)
                prepared = prepare(self.scorer.backbone, plan, folder, tasks.get(key))
                run = begin(self.scorer.backbone, prepared, on_event=partial(self.on_event, number))
                if prepared.rows.notes:
                    self.on_event(number, RowsEvent(prepared.rows.notes))
                if not folder.is_finished:
                    runs[number] = run
            except self.failures as exc:
                self._fail(number, exc)
        return runs

    def _score(
        self, runs: Mapping[int, Preparation], results: Sequence[TrainResult], *, share_s: float
    ) -> list[RunReport]:
        reports = []
        for number, result in zip(runs, results, strict=True):
            self.on_event(number, EndEvent(result.stop))
        for (number, run), result in zip(runs.items(), results, strict=True):
            if result.stop == "interrupted" and not self.resumable:
                continue
            self.on_event(number, ScoreEvent())
            try:
                report = finish(
                    self.scorer,
                    run,
                    result,
                    training_s=share_s,
                    on_baseline=partial(self._fitting, number),
                )
                self.on_report(number, report)
                reports.append(report)
            except self.failures as exc:
                self._fail(number, exc)
        if not self.resumable and any(result.stop == "interrupted" for result in results):
            raise KeyboardInterrupt
        return reports

    def _fitting(self, number: int, name: BaselineName) -> None:
        self.on_event(number, BaselineEvent(name))

    def _fail(self, number: int, exc: Exception) -> None:
        self.on_event(number, FailEvent(" ".join(str(exc).split()) or type(exc).__name__))
