"""T5's relative-position bias: the term that attention adds to a score for the distance between query and key.

Raffel et al. 2020, §2.1: each near distance has its own bucket, far ones share logarithmic buckets.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from backbone.trie import LabelTrie

_KEPT_LENGTH = 512
"""Longest row whose bias is kept (8.4 MB at 8 heads)."""
_KEPT_NODES = 256
"""Largest trie whose bias over all nodes is cached (1.5 MB at 6 heads)."""
_KEPT_BYTES = 64 << 20
"""Size at which the cache of tries' biases is emptied: a server may hold 20,000 adapters."""


def relative_buckets(
    distance: Tensor,  # [...] int64, key position − query position
    *,
    bidirectional: bool,
    num_buckets: int,
    max_distance: int,
) -> Tensor:
    """Return the bucket of each distance, same shape, int64 in [0, num_buckets)."""
    offset = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = (distance > 0).long() * num_buckets
        steps = distance.abs()
    else:
        steps = (-distance).clamp(min=0)
    num_exact = num_buckets // 2
    ratio = torch.log(steps.clamp(min=1).float() / num_exact) / math.log(max_distance / num_exact)
    far = (num_exact + (ratio * (num_buckets - num_exact)).long()).clamp(max=num_buckets - 1)
    return offset + torch.where(steps < num_exact, steps, far)


class EncoderBias:
    """Encoder bias for any row length. Only that of rows up to `_KEPT_LENGTH` tokens is kept.

    The bias depends only on the distance, so the bias of L tokens is the top left L × L corner of a longer one. A
    longer row's lives as long as its batch: it takes as much memory as the row's attention scores of one layer.
    """

    def __init__(self, table: Tensor, *, num_buckets: int, max_distance: int) -> None:
        self._table = table  # [buckets, heads]
        self._num_buckets, self.max_distance = num_buckets, max_distance
        self._kept = self._compute(128)  # [heads, L, L]

    @property
    def dtype(self) -> torch.dtype:
        return self._table.dtype

    def for_lengths(self, lengths: Sequence[int]) -> list[Tensor]:
        """Return the bias of each row, [heads, length, length]: read-only views, of one tensor for all long rows."""
        longest = max(lengths, default=0)
        if self._kept.shape[1] < min(longest, _KEPT_LENGTH):
            self._kept = self._compute(min(_KEPT_LENGTH, 1 << (longest - 1).bit_length()))
        widest = self._kept if longest <= self._kept.shape[1] else self._compute(longest)
        return [(self._kept if length <= self._kept.shape[1] else widest)[:, :length, :length] for length in lengths]

    def of_queries(self, length: int, first: int, last: int) -> Tensor:
        """Return the bias of a row's queries `first` to `last`, [heads, last − first, length]."""
        return self._compute(length, first, last)

    @cached_property
    def by_distance(self) -> Tensor:
        """The bias of each distance from −`max_distance` to `max_distance`, [heads, 2·max_distance + 1].

        All farther keys have the bias of the last one on their side.
        """
        return self._of_distances(self.max_distance + 1)

    # kept for later calls, which may need gradients
    @torch.inference_mode(mode=False)
    def _compute(self, length: int, first: int = 0, last: int | None = None) -> Tensor:
        by_distance = self._of_distances(length)  # [heads, 2·L − 1]
        # row i of the bias is the window of L distances that starts at L − 1 − i
        last = length if last is None else last
        return by_distance[:, length - last : 2 * length - 1 - first].unfold(1, length, 1).flip(1)  # [heads, q, L]

    def _of_distances(self, length: int) -> Tensor:
        """Return the bias of the distances between positions of a row, 1 − length to length − 1, [heads, 2·L − 1]."""
        positions = torch.arange(1 - length, length, device=self._table.device)
        buckets = relative_buckets(
            positions, bidirectional=True, num_buckets=self._num_buckets, max_distance=self.max_distance
        )
        return self._table[buckets].T.contiguous()


class TreeBias:
    """Decoder bias over trie nodes: T5's bias of the difference in depth, −inf unless the key is an ancestor.

    Cached as long as the trie exists and the cache is not full.
    """

    def __init__(self, table: Tensor, *, num_buckets: int, max_distance: int) -> None:
        self._table = table  # [buckets, heads]
        self._num_buckets, self._max_distance = num_buckets, max_distance
        self._known: WeakKeyDictionary[LabelTrie, Tensor] = WeakKeyDictionary()
        self._kept_bytes = 0

    def of(self, trie: LabelTrie, nodes: Sequence[int]) -> Tensor:
        """Return the bias [heads, M, M] over M nodes in ascending order that include all their ancestors."""
        if trie.num_nodes > _KEPT_NODES:
            return self._compute(trie, nodes)
        whole = self._known.get(trie)
        if whole is None:
            whole = self._compute(trie, range(trie.num_nodes))
            self._kept_bytes += whole.nbytes
            if self._kept_bytes > _KEPT_BYTES:
                self._known.clear()
                self._kept_bytes = whole.nbytes
            self._known[trie] = whole
        if len(nodes) == trie.num_nodes:
            return whole
        at = torch.tensor(nodes, device=whole.device)
        return whole.index_select(1, at).index_select(2, at)

    # cached for later calls, which may need gradients
    @torch.inference_mode(mode=False)
    def _compute(self, trie: LabelTrie, nodes: Sequence[int]) -> Tensor:
        device = self._table.device
        depths = torch.tensor([trie.node_depths[node] for node in nodes], device=device)
        buckets = relative_buckets(
            depths[None, :] - depths[:, None],
            bidirectional=False,
            num_buckets=self._num_buckets,
            max_distance=self._max_distance,
        )
        place = {node: i for i, node in enumerate(nodes)}
        sees = torch.eye(len(nodes), dtype=torch.bool)  # [M, M]
        for i, node in enumerate(nodes):
            parent = trie.node_parents[node]
            if parent >= 0:
                sees[i] |= sees[place[parent]]
        bias = self._table[buckets].permute(2, 0, 1)  # [heads, M, M]
        return bias.masked_fill(~sees.to(device), float("-inf")).contiguous()
