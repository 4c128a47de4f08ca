"""What a training run tells on its way, and what it comes to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.scoring.metrics import Metrics

Stop = Literal["finished", "patience", "pruned", "interrupted", "diverged"]
"""`finished`: it had its epochs or steps; `patience`: none better for as many evaluations as it was given; `pruned`:
its job was called hopeless."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One optimiser step is done."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rows: int
    training_s: float
    """Of the stack's steps up to this one, as in `TimingTotals`."""


@dataclass(frozen=True, slots=True)
class EvalEvent:
    """The prompt was scored on the selection rows: at each epoch's end, or each so many steps; step 0 is untrained."""

    epoch: int
    """The epoch that is under way, or at its end; 0 before the first."""
    step: int
    train_loss: float | None
    """Mean over the steps since the last evaluation; none for the untrained prompt."""
    metrics: Metrics
    is_best: bool
    prompt: NDArray[np.float32]  # [P, H]
    elapsed_s: float
    """Since the run began, whatever passed in it; a run that goes on from a checkpoint goes on from its time."""


@dataclass(frozen=True, slots=True)
class RestoreEvent:
    """A job goes on from a checkpoint."""

    evaluations: tuple[EvalEvent, ...]
    """All that were made before it."""
    step: int
    """Optimiser steps that were done before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingTotals:
    """What a job has taken, in all the processes that trained it; steps that were lost and taken again count once."""

    steps: int
    rows: int
    """Trained on, each counted as often as it was seen."""
    training_s: float
    """Of the stack's steps while the job was in it: they pass for all its prompts at once. Without evaluations."""
    evaluation_s: float
    """Of scoring this job's prompt on its selection rows."""
    stack_size: int
    """The most prompts that took a step at once, this one among them."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The best prompt and how the run got there."""

    evaluations: tuple[EvalEvent, ...]
    best_index: int
    """The best one's place among the evaluations."""
    stop: Stop
    timing: TimingTotals

    @property
    def prompt(self) -> NDArray[np.float32]:
        """The best one, [P, H]."""
        return self.evaluations[self.best_index].prompt

    @property
    def best_epoch(self) -> int:
        """The epoch that the best prompt is from; 0 where none was better than the untrained one."""
        return self.evaluations[self.best_index].epoch

    @property
    def best_step(self) -> int:
        """The optimiser steps that the best prompt has had."""
        return self.evaluations[self.best_index].step

    @property
    def best(self) -> Metrics:
        """The best prompt's selection metrics."""
        return self.evaluations[self.best_index].metrics

    @property
    def untrained(self) -> Metrics:
        return self.evaluations[0].metrics
