"""Row order of a job, drawn for every epoch from the job's seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.choices import Sampling
from training.data.balance import balanced_order


@dataclass(frozen=True, slots=True)
class OrderState:
    """The position in an order, as values that JSON can hold."""

    epoch: int
    taken: int
    """Rows of the epoch that have been drawn."""
    generator: dict[str, Any]
    """The state of NumPy's generator before the epoch was shuffled."""


class RowOrder:
    """An endless sequence of batches of row indices. Equal arguments give equal batches."""

    def __init__(self, labels: NDArray[np.int64], *, batch_size: int, seed: int, sampling: Sampling) -> None:
        self.epoch = 0
        """The current epoch; 0 before the first batch."""
        self._labels, self._num_rows, self._batch_size = labels, len(labels), batch_size
        self._sampling = sampling
        self._generator = np.random.default_rng(seed)
        self._before = self._generator.bit_generator.state
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._taken = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch; the last one may be smaller."""
        return -(-self._num_rows // self._batch_size)

    @property
    def is_epoch_over(self) -> bool:
        """Whether the last batch ended its epoch."""
        return self._taken >= len(self._rows)

    def next_batch(self) -> NDArray[np.int64]:
        """Return the rows of the next step, [B], starting a new epoch if the last one is over."""
        if self.is_epoch_over:
            self.epoch += 1
            self._shuffle()
        batch = self._rows[self._taken : self._taken + self._batch_size]
        self._taken += len(batch)
        return batch

    def state(self) -> OrderState:
        """Return the current position."""
        return OrderState(self.epoch, self._taken, dict(self._before))

    def restore(self, state: OrderState) -> None:
        """Continue from a position."""
        self._generator.bit_generator.state = state.generator
        if state.epoch:
            self._shuffle()
        self.epoch, self._taken = state.epoch, state.taken

    def _shuffle(self) -> None:
        self._before = self._generator.bit_generator.state
        self._rows, self._taken = self._draw(), 0

    def _draw(self) -> NDArray[np.int64]:
        """Draw the rows of an epoch: all of them, or every label equally often."""
        if self._sampling == "balanced":
            return balanced_order(self._labels, self._generator)
        return self._generator.permutation(self._num_rows)
