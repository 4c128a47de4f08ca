"""A running sweep: the next trials, their results, and the best; independent of where they train."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import optuna
from optuna.trial import FrozenTrial

from backbone import Backbone
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments, SweepFailed
from training.loop.events import EvalEvent, TrainResult
from training.runs.executor import score_trained
from training.runs.identity import identity_fields
from training.runs.layout import ADAPTER
from training.runs.run import RunReport
from training.scoring.metrics import Metrics
from training.sweeping.folder import SweepFolder, read_result, write_result
from training.sweeping.space import SearchSpace
from training.sweeping.stacks import SweepTask, train_trials
from training.sweeping.study import MAX_ATTEMPTS, PrunerName, SweepStudy, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Settings of a sweep."""

    space: SearchSpace
    fixed: TrainArguments
    """Arguments outside the space. Its seed decides the rows of every trial and the search."""
    trials: int
    parallel: int
    """Trials per stack."""
    metric: str
    """The metric that trials are compared by, of the best epoch on the selection rows."""
    pruner: PrunerName = "median"


def described(plan: SweepPlan, task: SweepTask, *, fingerprint: str) -> dict[str, object]:
    """Return the settings that identify the sweep, for `sweep.json`; the number of trials may change on resume.

    Args:
        fingerprint: the backbone's
    """
    asked = asdict(plan)
    del asked["trials"], asked["parallel"]
    rows = {"split": task.split, "limit": task.limit, "data": task.rows.described}
    starts = {"backbone": fingerprint, "sources": list(task.sources)}
    return {"task": identity_fields(task.task.model_dump(mode="json")), **asked, **rows, **starts}


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """A trial with a value, of this process or an earlier one."""

    number: int
    arguments: TrainArguments
    value: float
    loss: float
    best_epoch: int
    stop: str


class Sweep:
    """Draws stacks from the study, keeps their results, and ranks them."""

    def __init__(
        self,
        plan: SweepPlan,
        task: SweepTask,
        folder: SweepFolder,
        *,
        on_evaluation: Callable[[Trial, EvalEvent], None] = lambda trial, event: None,
        on_end: Callable[["Sweep", EndedTrial], None] = lambda sweep, trial: None,
    ) -> None:
        """Open the study. A trial that an earlier process left is kept if it has a result, and otherwise repeated.

        Args:
            on_evaluation: called after each evaluation that may prune the trial
            on_end: called with each trial that has a value

        Raises:
            InvalidArguments: the metric is not one of the task's
        """
        known = ("score", "loss", *task.task.scoring.measured)
        if plan.metric not in known:
            raise InvalidArguments(f"metric is {plan.metric!r}, expected one of {', '.join(known)}")
        self.plan, self.task, self.folder = plan, task, folder
        self._on_evaluation, self._on_end = on_evaluation, on_end
        self.maximise = plan.metric != "loss"
        self._study = SweepStudy(folder.study, plan.space, plan.fixed, maximise=self.maximise, pruner=plan.pruner)
        self._trials: dict[int, Trial] = {}
        self._evaluated: dict[int, list[int]] = {}
        """The steps at which each trial was evaluated."""
        for number in self._study.left_running():
            result = read_result(folder.trial(number))
            if result is None:
                self._study.lose([number], count_attempt=False)
            else:
                self._record(number, result)

    def close(self) -> None:
        """Close the study; a resumed sweep repeats the trials that still run."""
        self._study.close()

    @property
    def num_lost(self) -> int:
        """Number of trials that were repeated because their process ended early."""
        return self._study.num_lost

    def next_stack(self) -> list[Trial]:
        """Draw the next trials to train together; empty when no trial is left."""
        left = self.plan.trials - self._study.num_ended - self._study.num_running
        asked = self._study.ask(max(0, min(left, self.plan.parallel)))
        self._trials |= {trial.number: trial for trial in asked}
        return asked

    def should_prune(self, number: int, event: EvalEvent, best: Metrics) -> bool:
        """Return whether to prune a trial after an evaluation, judged by its best value so far.

        A stack that resumes from a checkpoint repeats the evaluations since then.
        """
        steps = self._evaluated.setdefault(number, [])
        if event.step not in steps:
            steps.append(event.step)
            self._on_evaluation(self._trials[number], event)
        return self._study.should_prune(number, self._value(best), evaluation=steps.index(event.step) + 1)

    def keep(self, number: int, result: TrainResult) -> None:
        """Write the result of a trial, then record it in the study."""
        write_result(self.folder.trial(number), result)
        self._record(number, result)

    def lose(self, numbers: Sequence[int], reason: str) -> None:
        """Repeat the trials of a process that died.

        Raises:
            SweepFailed: the processes of one of them died too often
        """
        if given_up := self._study.lose(numbers, count_attempt=True):
            raise SweepFailed(f"trial {given_up[0]}: the {MAX_ATTEMPTS} workers that tried it died, the last: {reason}")

    def ended(self) -> list[EndedTrial]:
        """Return all trials with a value, best first; ties are ordered by loss, and pruned trials come last."""
        sign = -1 if self.maximise else 1
        return sorted(
            map(self._ended, self._study.ended()),
            key=lambda trial: (trial.stop == "pruned", sign * trial.value, trial.loss),
        )

    def importances(self) -> dict[str, float]:
        """Return the importance of each argument from Optuna; empty for a small search."""
        return self._study.importances()

    def _record(self, number: int, result: TrainResult) -> None:
        best = result.best
        self._study.tell(number, self._value(best), loss=best.loss, best_epoch=result.best_epoch, stop=result.stop)
        self._on_end(self, self._ended(self._study.trial(number)))

    def _value(self, metrics: Metrics) -> float:
        return metrics.figures()[self.plan.metric]

    def _ended(self, trial: FrozenTrial) -> EndedTrial:
        assert trial.value is not None
        return EndedTrial(
            number=trial.number,
            arguments=self.plan.space.draw(optuna.trial.FixedTrial(trial.params), self.plan.fixed),
            value=trial.value,
            loss=trial.user_attrs["loss"],
            best_epoch=trial.user_attrs["best_epoch"],
            stop=trial.user_attrs["stop"],
        )


def sweep_here(backbone: Backbone, sweep: Sweep) -> None:
    """Train in this process until no trial is left.

    Raises:
        KeyboardInterrupt: Ctrl-C; a resumed sweep repeats the stack that ran
    """
    while stack := sweep.next_stack():
        folders = [sweep.folder.trial(trial.number) for trial in stack]
        results = train_trials(backbone, sweep.task, stack, folders, should_prune=sweep.should_prune)
        for trial, result in zip(stack, results, strict=True):
            sweep.keep(trial.number, result)


def report_best(backbone: Backbone, sweep: Sweep, best: EndedTrial) -> RunReport | None:
    """Score the best trial's prompt on the report rows and write its adapter; returns None if that is done already."""
    folder = sweep.folder.trial(best.number)
    if (folder / ADAPTER).exists():
        return None
    result = read_result(folder)
    assert result is not None
    return score_trained(backbone, sweep.task.plan(Trial(best.number, best.arguments), folder), result)
