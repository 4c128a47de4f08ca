"""Dropout of the frozen network, for training only, where `transformers` has it in T5.

It follows the embedding, attention probabilities, the inner feed-forward layer, each sublayer and the last norm. Each
row has its own random generator, so that its training does not depend on the other rows of its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

T5_RATE = 0.1
"""Rate of every released T5's fine-tuning; v1.1 was pre-trained without dropout."""

Drop = Callable[[Tensor], Tensor]
"""Dropout of one tensor whose rows are known."""


class Dropout:
    """Random draws of one pass, with one generator per row."""

    def __init__(self, seeds: Sequence[int], *, device: torch.device, rate: float = T5_RATE) -> None:
        """Seed the generators of one pass.

        Args:
            seeds: [B], one per row
        """
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._rate = rate

    def row(self, x: Tensor, number: int) -> Tensor:
        """Keep each number of a row with probability 1 − rate, divided by 1 − rate, so that the mean is unchanged."""
        kept = torch.empty_like(x).bernoulli_(1 - self._rate, generator=self._generators[number])
        return x * kept / (1 - self._rate)

    def of(self, counts: Sequence[int], numbers: Sequence[int] | None = None) -> "RowsDropout":
        """Return the dropout of concatenated rows with `counts` positions; `numbers` are the rows, all by default."""
        return RowsDropout(self, tuple(counts), tuple(range(len(counts)) if numbers is None else numbers))


@dataclass(frozen=True, slots=True)
class RowsDropout:
    """Dropout of some rows of a pass, concatenated."""

    dropout: Dropout
    counts: tuple[int, ...]  # positions per row
    numbers: tuple[int, ...]  # row numbers in the pass

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to [Σcounts + padding, …]; the padding is unchanged."""
        parts = torch.split(x, [*self.counts, len(x) - sum(self.counts)])
        dropped = [self.dropout.row(part, number) for part, number in zip(parts, self.numbers, strict=False)]
        return torch.cat([*dropped, parts[-1]])

    def row(self, index: int) -> Drop:
        """Return the dropout of a tensor that belongs to one of these rows."""
        return partial(self.dropout.row, number=self.numbers[index])
