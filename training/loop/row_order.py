"""The order in which a job sees its rows: every epoch draws it anew, by the job's seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.choices import Sampling
from training.data.balance import balanced_order


@dataclass(frozen=True, slots=True)
class OrderState:
    """Where an order stands, as JSON can hold it."""

    epoch: int
    taken: int
    """Rows of the epoch that were drawn."""
    generator: dict[str, Any]
    """NumPy's, as it was before the epoch was shuffled."""


class RowOrder:
    """Batches of row numbers without end. Two of the same arguments draw the same batches."""

    def __init__(self, labels: NDArray[np.int64], *, batch_size: int, seed: int, sampling: Sampling) -> None:
        self.epoch = 0
        """The epoch under way, or just over; 0 before the first batch."""
        self._labels, self._num_rows, self._batch_size = labels, len(labels), batch_size
        self._sampling = sampling
        self._generator = np.random.default_rng(seed)
        self._before = self._generator.bit_generator.state
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._taken = 0

    @property
    def steps_an_epoch(self) -> int:
        """Batches of an epoch; its last may be smaller."""
        return -(-self._num_rows // self._batch_size)

    @property
    def at_epochs_end(self) -> bool:
        """Whether the last batch was its epoch's last."""
        return self._taken >= len(self._rows)

    def next_batch(self) -> NDArray[np.int64]:
        """The rows of the next step, [n]; begins an epoch where the last one is over."""
        if self.at_epochs_end:
            self.epoch += 1
            self._shuffle()
        batch = self._rows[self._taken : self._taken + self._batch_size]
        self._taken += len(batch)
        return batch

    def state(self) -> OrderState:
        """Where it stands."""
        return OrderState(self.epoch, self._taken, dict(self._before))

    def restore(self, state: OrderState) -> None:
        """Go on from there."""
        self._generator.bit_generator.state = state.generator
        if state.epoch:
            self._shuffle()
        self.epoch, self._taken = state.epoch, state.taken

    def _shuffle(self) -> None:
        self._before = self._generator.bit_generator.state
        self._rows, self._taken = self._draw(), 0

    def _draw(self) -> NDArray[np.int64]:
        """An epoch's rows: all of them, or every label equally often."""
        if self._sampling == "balanced":
            return balanced_order(self._labels, self._generator)
        return self._generator.permutation(self._num_rows)
