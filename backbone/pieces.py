"""Bounds on the work between two pauses of a forward, so that other rows can run in between.

A piece is a part of a layer. Where a row or a batch is too large for one, the layer is computed in parts that depend
only on the row's own size, or whose results do not depend on the division.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Pause = Callable[[float], None]
"""Called between two pieces with the packed tokens that were worked off since the last call; all calls of a forward
add up to its tokens and decoded nodes. It may run another forward before it returns."""

PIECE_TOKENS = 1_024
"""Rows of a matrix product in one piece: 20 ms for the feed-forward of the embedded backbone on two cores."""
PIECE_CELLS = 1 << 18
"""Pairs of query and key in one piece of the encoder's attention, a row of 512 tokens: 10 ms."""
CROSS_CELLS = 1 << 16
"""Pairs of node and key in one piece of the cross-attention, where a head has the width of the model: 10 ms."""


def no_pause(tokens: float) -> None:
    """Do nothing."""


class Progress:
    """Pauses between the pieces of one forward, and divides the tokens of each of its parts over the part's pieces."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._part = self._left = 0.0

    @property
    def pauses(self) -> bool:
        """Whether anything is done at a pause."""
        return self._pause is not no_pause

    def begin(self, tokens: float = 0.0) -> None:
        """Pause after the part that is done, and begin one that works off `tokens`; begin an empty one at the end."""
        self._pause(self._left)
        self._part = self._left = tokens

    def piece(self, share: float = 0.0) -> None:
        """Pause within a part of which another `share`, 0 to 1, is done."""
        done = min(self._left, share * self._part)
        self._left -= done
        self._pause(done)


def in_pieces(compute: Callable[[Tensor], Tensor], x: Tensor, progress: Progress) -> Tensor:
    """Return `compute(x)` of rows that do not depend on each other, [N, …], with a pause between parts of equal size.

    Parts have at least half of `PIECE_TOKENS` rows, since kernels for a few rows add in another order.
    """
    if len(x) <= PIECE_TOKENS or not progress.pauses:
        return compute(x)
    found: list[Tensor] = []
    parts = torch.tensor_split(x, -(-len(x) // PIECE_TOKENS))
    for part in parts:
        if found:
            progress.piece(1 / len(parts))
        found.append(compute(part))
    return torch.cat(found)


def spans(length: int, most: int) -> list[tuple[int, int]]:
    """Divide `length` things into spans of nearly equal size, each at most `most`."""
    count = -(-length // max(1, most))
    edges = [length * index // count for index in range(count + 1)]
    return list(pairwise(edges))
