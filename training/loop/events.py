"""The events of a training run, and its result."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backbone import LabelVectors
from training.scoring.metrics import Metrics
from training.scoring.out_of_fold import OutOfFold

Stop = Literal["finished", "patience", "pruned", "interrupted", "diverged"]
"""Why a run ended. `finished`: all its epochs or steps are done; `patience`: too many evaluations without improvement;
`pruned`: the job's `should_prune` said so; `diverged`: the loss or the prompt left its range."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """An optimiser step is done."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rows: int
    training_s: float
    """The time in the stack's steps up to this one, as in `TimingTotals`."""


@dataclass(frozen=True, slots=True)
class EvalEvent:
    """The prompt was scored on the selection rows, every epoch or `eval_every` steps; at step 0 it is untrained.

    The fits of a head to few rows are scored out of fold instead, and their start on the same rows.
    """

    epoch: int
    """The current epoch; 0 before the first."""
    step: int
    train_loss: float | None
    """Mean over the steps since the last evaluation; None for the untrained prompt."""
    metrics: Metrics
    is_best: bool
    prompt: NDArray[np.float32]  # [P, H]
    elapsed_s: float
    """Wall time since the run began. A resumed run continues from the time of its checkpoint."""
    is_out_of_fold: bool = False
    """Whether the metrics are of out-of-fold predictions of the training and selection rows."""


@dataclass(frozen=True, slots=True)
class RestoreEvent:
    """A job resumes from a checkpoint."""

    evaluations: tuple[EvalEvent, ...]
    """All evaluations before the checkpoint."""
    step: int
    """Optimiser steps before the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingTotals:
    """The cost of a job, over all processes that trained it. Steps that were lost and repeated count once."""

    steps: int
    rows: int
    """Training rows, each counted as often as it was seen."""
    training_s: float
    """Time in the stack's steps while the job took part, which all its prompts share. Evaluations are excluded."""
    evaluation_s: float
    """Time spent scoring this job's prompt on its selection rows."""
    stack_size: int
    """The largest number of prompts that took a step together, this one included."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The evaluations of a run, the best prompt and readout among them, and the cost."""

    evaluations: tuple[EvalEvent, ...]
    best_index: int
    """The index of the best evaluation."""
    stop: Stop
    timing: TimingTotals
    readout: LabelVectors | None = None
    """The learned readout of the best evaluation; None with label words."""
    out_of_fold: OutOfFold | None = None
    """The predictions that the best evaluation is of, for a head that is fitted to few rows."""

    @property
    def prompt(self) -> NDArray[np.float32]:
        """The best prompt, [P, H]."""
        return self.evaluations[self.best_index].prompt

    @property
    def best_epoch(self) -> int:
        """The epoch of the best prompt; 0 if no prompt was better than the untrained one."""
        return self.evaluations[self.best_index].epoch

    @property
    def best_step(self) -> int:
        """The optimiser steps that led to the best prompt."""
        return self.evaluations[self.best_index].step

    @property
    def best(self) -> Metrics:
        """The best prompt's selection metrics, out of fold for a head that is fitted to few rows."""
        return self.evaluations[self.best_index].metrics

    @property
    def untrained(self) -> Metrics:
        return self.evaluations[0].metrics
