"""Pieces of bounded work, between which a forward pauses so that other rows can run.

A piece is a part of a layer. If a row or a batch is too large for one piece, the layer is computed in parts. Either the
parts depend only on the row's own size, or the results do not depend on how the layer is divided.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Pause = Callable[[float], None]
"""Called between two pieces with the number of packed tokens computed since the last call. Over a forward the numbers
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
    """Pauses between the pieces of a forward, and divides the tokens of each part among the part's pieces."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._part = self._left = 0.0

    @property
    def pauses(self) -> bool:
        """Whether a pause does anything."""
        return self._pause is not no_pause

    def begin(self, tokens: float = 0.0) -> None:
        """Pause after the finished part, and begin one of `tokens` tokens; the last one is empty."""
        self._pause(self._left)
        self._part = self._left = tokens

    def piece(self, share: float = 0.0) -> None:
        """Pause within a part after another `share` of it, 0 to 1, is done."""
        done = min(self._left, share * self._part)
        self._left -= done
        self._pause(done)


def in_pieces(compute: Callable[[Tensor], Tensor], x: Tensor, progress: Progress) -> Tensor:
    """Return `compute(x)` for independent rows, [N, …], with a pause between parts of equal size.

    Each part has at least half of `PIECE_TOKENS` rows, since kernels for few rows add in another order.
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


def paused(edges: Sequence[int], progress: Progress) -> Iterator[tuple[int, int]]:
    """Yield the ranges between consecutive edges, with a pause after each `PIECE_TOKENS` positions."""
    since = edges[0]
    for first, last in pairwise(edges):
        if first - since >= PIECE_TOKENS:
            progress.piece((first - since) / edges[-1])
            since = first
        yield first, last


def spans(length: int, most: int) -> list[tuple[int, int]]:
    """Divide `length` positions into spans of nearly equal size, each at most `most`."""
    count = -(-length // max(1, most))
    edges = [length * index // count for index in range(count + 1)]
    return list(pairwise(edges))
