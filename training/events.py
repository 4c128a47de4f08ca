"""What a training run tells on its way, and what it comes to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.metrics import Metrics

Stop = Literal["finished", "interrupted", "diverged", "pruned"]


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One optimiser step is done."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rows: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class EpochEvent:
    """An epoch was evaluated on the selection rows; epoch 0 is the untrained prompt."""

    epoch: int
    train_loss: float | None
    metrics: Metrics
    is_best: bool
    prompt: NDArray[np.float32]  # [P, H]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The best prompt and how the run got there."""

    prompt: NDArray[np.float32]  # [P, H]
    best_epoch: int
    epochs: tuple[EpochEvent, ...]
    stop: Stop

    @property
    def best(self) -> Metrics:
        """The selection metrics of the best epoch."""
        return self.epochs[self.best_epoch].metrics

    @property
    def untrained(self) -> Metrics:
        return self.epochs[0].metrics
