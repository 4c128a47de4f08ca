"""Running sweep: the next trials, their results, and the best one. It does not know where they train."""

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
    """Arguments outside the space; their seed decides the rows of every trial and the search."""
    trials: int
    parallel: int
    """Trials of one stack."""
    metric: str
    """Figure that compares trials: of the best epoch on the selection rows."""
    pruner: PrunerName = "median"


def described(plan: SweepPlan, task: SweepTask, *, fingerprint: str) -> dict[str, object]:
    """Return the identity of the sweep for `sweep.json`; the number of trials and the stacks are not part of it.

    Args:
        fingerprint: the backbone's
    """
    asked = asdict(plan)
    del asked["trials"], asked["parallel"]
    rows = {"split": task.split, "limit": task.limit, "data": task.rows.described}
    return {"task": identity_fields(task.task.model_dump(mode="json")), **asked, **rows, "backbone": fingerprint}


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """A trial with a value, of this process or of one before."""

    number: int
    arguments: TrainArguments
    value: float
    loss: float
    best_epoch: int
    stop: str


class Sweep:
    """Takes stacks from the study, records their results, and knows the best."""

    def __init__(
        self,
        plan: SweepPlan,
        task: SweepTask,
        folder: SweepFolder,
        *,
        on_evaluation: Callable[[Trial, EvalEvent], None] = lambda trial, event: None,
        on_end: Callable[["Sweep", EndedTrial], None] = lambda sweep, trial: None,
    ) -> None:
        """Open the sweep's study; of an earlier process, ended trials are kept and unfinished ones repeated.

        Args:
            on_evaluation: called for a trial that continues after an evaluation
            on_end: called for a trial that has a value

        Raises:
            InvalidArguments: the task does not have the metric
        """
        known = ("score", "loss", *task.task.scoring.measured)
        if plan.metric not in known:
            raise InvalidArguments(f"metric is {plan.metric!r}, expected one of {', '.join(known)}")
        self.plan, self.task, self.folder = plan, task, folder
        self._on_evaluation, self._on_end = on_evaluation, on_end
        self.maximise = plan.metric != "loss"
        self._study = SweepStudy(folder.study, plan.space, plan.fixed, maximise=self.maximise, pruner=plan.pruner)
        self._trials: dict[int, Trial] = {}
        for number in self._study.left_running():
            result = read_result(folder.trial(number))
            if result is None:
                self._study.lose([number], count_attempt=False)
            else:
                self._tell(number, result)

    def close(self) -> None:
        """Let go of the study; trials that still run are asked again when the sweep is resumed."""
        self._study.close()

    @property
    def num_lost(self) -> int:
        """Trials whose process ended before they did; each was asked again."""
        return self._study.num_lost

    def next_stack(self) -> list[Trial]:
        """The trials to train together next; none when all that were asked for have ended or run."""
        left = self.plan.trials - self._study.num_ended - self._study.num_running
        asked = self._study.ask(max(0, min(left, self.plan.parallel)))
        self._trials |= {trial.number: trial for trial in asked}
        return asked

    def should_prune(self, number: int, event: EvalEvent, best: Metrics) -> bool:
        """Whether a trial is given up after an evaluation: judged by its best so far, which it would be worth."""
        self._on_evaluation(self._trials[number], event)
        return self._study.should_prune(number, self._value(best))

    def keep(self, number: int, result: TrainResult) -> None:
        """Write down an ended trial, then record it in the study."""
        write_result(self.folder.trial(number), result)
        self._tell(number, result)

    def lose(self, numbers: Sequence[int], reason: str) -> None:
        """The process that trained these has died: they are asked again.

        Raises:
            SweepFailed: that has happened to one of them too often
        """
        if given_up := self._study.lose(numbers, count_attempt=True):
            raise SweepFailed(f"trial {given_up[0]}: the {MAX_ATTEMPTS} workers that tried it died, the last: {reason}")

    def ended(self) -> list[EndedTrial]:
        """Every trial with a value: the best first, equal values by their loss, and pruned ones after the rest."""
        sign = -1 if self.maximise else 1
        return sorted(
            map(self._ended, self._study.ended()),
            key=lambda trial: (trial.stop == "pruned", sign * trial.value, trial.loss),
        )

    def importances(self) -> dict[str, float]:
        """How much of the value each argument explains, from Optuna; none of a search too small for it."""
        return self._study.importances()

    def _tell(self, number: int, result: TrainResult) -> None:
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
    """Train until nothing is left to try.

    Raises:
        KeyboardInterrupt: Ctrl-C; the stack that ran is asked again when the sweep is resumed
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
