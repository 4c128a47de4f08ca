"""The Optuna study of a sweep: draws trials, records results, prunes, and survives the process."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from adapters.storage.private_files import close_to_others, create_private
from training.config.arguments import TrainArguments
from training.errors import SweepFailed
from training.sweeping.space import SearchSpace

PrunerName = Literal["median", "halving", "hyperband", "none"]

MAX_ATTEMPTS = 3
"""A trial whose workers died this often fails the sweep."""
MIN_TRIALS_OF_IMPORTANCES = 4
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Trial:
    """A run to try."""

    number: int
    arguments: TrainArguments


class SweepStudy:
    """A study in a SQLite file, open in one process at a time.

    Every method raises `SweepFailed` if the file cannot be read or written, for example on a full disk. Earlier results
    are kept.
    """

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        fixed: TrainArguments,
        *,
        maximise: bool,
        pruner: PrunerName,
    ) -> None:
        """Open the study, or begin it.

        Args:
            fixed: what the space leaves open; its seed seeds the sampler too
            maximise: whether a larger value is a better one
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._fixed = space, fixed
        # SQLite: a process killed while it writes leaves nothing to repair, where a journal keeps its lock for 30 s
        self._storage = _storage(path)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="sweep",
            direction="maximize" if maximise else "minimize",
            pruner=_pruner(pruner),
            load_if_exists=True,
        )
        self._running: dict[int, optuna.Trial] = {}

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def num_ended(self) -> int:
        """Number of trials with a value."""
        return len(self._study.get_trials(deepcopy=False, states=_ENDED))

    @property
    def num_running(self) -> int:
        return len(self._running)

    def ended(self) -> list[FrozenTrial]:
        """Return the trials with a value, in the order they were drawn; a pruned trial has its best value so far."""
        return self._study.get_trials(deepcopy=False, states=_ENDED)

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial in its current state."""
        return self._study.trials[number]

    def importances(self) -> dict[str, float]:
        """Return the importance of each drawn argument; empty for a small study."""
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(ended) < MIN_TRIALS_OF_IMPORTANCES or len({trial.value for trial in ended}) < 2:
            return {}
        return optuna.importance.get_param_importances(self._study)

    def left_running(self) -> list[int]:
        """Return the trials that an earlier process left without a value."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in trials if trial.number not in self._running]

    @property
    def num_lost(self) -> int:
        """Number of trials that ended without a value and were repeated."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))

    def ask(self, count: int) -> list[Trial]:
        """Draw trials to train together; lost trials are repeated first."""
        # a new seed for each stack: a resumed sweep does not draw its first trials a second time
        num_trials = len(self._study.get_trials(deepcopy=False))
        seed = np.random.SeedSequence([self._fixed.seed, num_trials]).generate_state(1)
        # a running trial counts as a bad one: the rest of the stack is drawn elsewhere (constant liar)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]), constant_liar=True)
        asked = []
        for _ in range(count):
            trial = self._study.ask()
            arguments = self._space.draw(trial, self._fixed)
            self._running[trial.number] = trial
            asked.append(Trial(trial.number, arguments))
        return asked

    def should_prune(self, number: int, value: float, *, evaluation: int) -> bool:
        """Return whether the pruner ends a trial with this value.

        Args:
            number: the trial's
            value: its best so far
            evaluation: the number of its evaluations, this one included; a repeated one is not reported again
        """
        trial = self._running[number]
        if evaluation not in self.trial(number).intermediate_values:
            trial.report(value, evaluation)
        return trial.should_prune()

    def tell(self, number: int, value: float, *, loss: float, best_epoch: int, stop: str) -> None:
        """Record the value of a trial.

        Args:
            loss: the selection loss, which orders equal values
            stop: the reason for the end; `pruned` marks the trial as pruned
        """
        # an earlier process may have written the result without recording it
        trial = self._running.pop(number, None) or optuna.Trial(self._study, self._study.trials[number]._trial_id)
        trial.set_user_attr("loss", loss)
        trial.set_user_attr("best_epoch", best_epoch)
        trial.set_user_attr("stop", stop)
        if stop == "pruned":
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, value)

    def lose(self, numbers: Sequence[int], *, count_attempt: bool) -> list[int]:
        """Mark trials without a value as failed and repeat them; returns those that failed too often.

        Args:
            count_attempt: whether the trial may be to blame; an interrupted process is not its fault
        """
        given_up = []
        for number in numbers:
            self._running.pop(number, None)
            lost = self._study.trials[number]
            attempts = int(lost.user_attrs.get("attempts", 0)) + count_attempt
            self._study.tell(number, state=TrialState.FAIL)
            if attempts >= MAX_ATTEMPTS:
                given_up.append(number)
            else:
                self._study.enqueue_trial(lost.params, user_attrs={"attempts": attempts, "again": number})
        return given_up


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """Open the study's file; later SQLite errors are raised as `SweepFailed` too."""

    def refused(error: Exception) -> SweepFailed:
        reason = getattr(error, "orig", None) or error
        return SweepFailed(f"the study {path} cannot be used: {reason}; once it can, --resume continues it")

    with suppress(OSError):  # SQLite reports it better
        create_private(path)
        close_to_others(path)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    except sqlalchemy.exc.DatabaseError as exc:
        raise refused(exc) from exc

    @sqlalchemy.event.listens_for(storage.engine, "handle_error")
    def failed(context: sqlalchemy.engine.ExceptionContext) -> SweepFailed | None:
        error = context.sqlalchemy_exception
        return refused(error) if isinstance(error, sqlalchemy.exc.OperationalError) else None

    return storage


def _pruner(name: PrunerName) -> optuna.pruners.BasePruner:
    match name:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3)
        case "none":
            return optuna.pruners.NopPruner()
