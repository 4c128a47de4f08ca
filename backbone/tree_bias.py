"""The decoder's self-attention bias over nodes of a label trie."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from backbone.relative_bias import relative_buckets
from backbone.trie import LabelTrie

_KEPT_NODES = 256
"""Tries up to this size keep the bias over all their nodes (1.5 MB at 6 heads)."""


class TreeBias:
    """T5's bias for the difference in depth, −inf where the key is no ancestor; kept as long as the trie lives."""

    def __init__(self, table: Tensor, *, num_buckets: int, max_distance: int) -> None:
        self._table = table  # [buckets, heads]
        self._num_buckets, self._max_distance = num_buckets, max_distance
        self._known: WeakKeyDictionary[LabelTrie, Tensor] = WeakKeyDictionary()

    def of(self, trie: LabelTrie, nodes: Sequence[int]) -> Tensor:
        """[heads, M, M] over M nodes, ascending, every one's ancestors among them."""
        if trie.num_nodes > _KEPT_NODES:
            return self._compute(trie, nodes)
        whole = self._known.get(trie)
        if whole is None:
            whole = self._known[trie] = self._compute(trie, range(trie.num_nodes))
        if len(nodes) == trie.num_nodes:
            return whole
        at = torch.tensor(nodes, device=whole.device)
        return whole.index_select(1, at).index_select(2, at)

    @torch.inference_mode(mode=False)  # kept for later calls, which may want gradients
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
