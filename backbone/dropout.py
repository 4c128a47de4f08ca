"""Dropout of the frozen network, for training alone, at the places where `transformers` has it in T5.

After the embedding, on attention probabilities, inside the feed-forward, after each sublayer and after the last norm.
Each row draws by itself, so that what it is trained with does not depend on the rows that share its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

T5_RATE = 0.1
"""What every released T5 was fine-tuned with; v1.1 was pre-trained without any."""

Drop = Callable[[Tensor], Tensor]
"""Dropout of one tensor, its rows known."""


class Dropout:
    """One pass's draws: a generator a row."""

    def __init__(self, seeds: Sequence[int], *, device: torch.device, rate: float = T5_RATE) -> None:
        """Begin the draws of one pass.

        Args:
            seeds: [B], of each row's draws
        """
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._rate = rate

    def row(self, x: Tensor, number: int) -> Tensor:
        """One row's numbers, each kept with probability 1 − rate and then scaled up by it, so that the mean stays."""
        kept = torch.empty_like(x).bernoulli_(1 - self._rate, generator=self._generators[number])
        return x * kept / (1 - self._rate)

    def of(self, counts: Sequence[int], numbers: Sequence[int] | None = None) -> "RowsDropout":
        """That of rows end to end, each of so many positions; `numbers` says which rows they are, where not all."""
        return RowsDropout(self, tuple(counts), tuple(range(len(counts)) if numbers is None else numbers))


@dataclass(frozen=True, slots=True)
class RowsDropout:
    """Dropout of some rows of a pass, laid end to end."""

    dropout: Dropout
    counts: tuple[int, ...]  # positions of each
    numbers: tuple[int, ...]  # each one's place in the pass

    def __call__(self, x: Tensor) -> Tensor:
        """[Σcounts + padding, …]; the padding stays as it is."""
        parts = torch.split(x, [*self.counts, len(x) - sum(self.counts)])
        dropped = [self.dropout.row(part, number) for part, number in zip(parts, self.numbers, strict=False)]
        return torch.cat([*dropped, parts[-1]])

    def row(self, index: int) -> Drop:
        """Dropout of a tensor that is one of these rows' alone."""
        return partial(self.dropout.row, number=self.numbers[index])
