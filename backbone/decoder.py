"""The tree decoder: every node of every row's label trie in one pass.

A node sees itself and its ancestors, and its own row's encoder states; its position is its depth. That is what
`transformers` computes when it decodes each label word by itself, prefixes computed once.
"""

from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Architecture
from backbone.layers import attend, feed_forward, rms_norm
from backbone.relative_bias import relative_buckets
from backbone.trie import LabelTrie
from backbone.weights import CrossAttention, SelfAttention, T5Weights


class TreeBias:
    """The decoder's self-attention bias over each trie's nodes, kept as long as the trie lives."""

    def __init__(self, table: Tensor, *, num_buckets: int, max_distance: int) -> None:
        self._table = table  # [buckets, heads]
        self._num_buckets, self._max_distance = num_buckets, max_distance
        self._known: WeakKeyDictionary[LabelTrie, Tensor] = WeakKeyDictionary()

    def of(self, trie: LabelTrie) -> Tensor:
        """[heads, M, M]: T5's bias for the difference in depth, −inf where the key is no ancestor."""
        bias = self._known.get(trie)
        if bias is None:
            bias = self._known[trie] = self._compute(trie)
        return bias

    @torch.inference_mode(mode=False)  # kept for later calls, which may want gradients
    def _compute(self, trie: LabelTrie) -> Tensor:
        depths = torch.tensor(trie.node_depths, device=self._table.device)
        buckets = relative_buckets(
            depths[None, :] - depths[:, None],
            bidirectional=False,
            num_buckets=self._num_buckets,
            max_distance=self._max_distance,
        )
        sees = torch.eye(trie.num_nodes, dtype=torch.bool)  # [M, M]
        for node, parent in enumerate(trie.node_parents[1:], start=1):
            sees[node] |= sees[parent]
        bias = self._table[buckets].permute(2, 0, 1)  # [heads, M, M]
        return bias.masked_fill(~sees.to(bias.device), float("-inf")).contiguous()


def decode(
    encoded: Tensor,  # [N, H], the encoder's last hidden states
    offsets: Sequence[int],  # [B + 1]
    tries: Sequence[LabelTrie],  # [B]
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: TreeBias,
) -> Tensor:
    """The last hidden state of every row's trie nodes, rows end to end, [ΣM_i, H], ready for the head."""
    lengths = [end - start for start, end in pairwise(offsets)]
    token_ids = torch.tensor([token for trie in tries for token in trie.node_tokens], device=encoded.device)
    x = weights.embedding[token_ids]  # [D, H], D = ΣM_i
    for layer in weights.decoder:
        x = x + _self_attention(x, layer.attention, architecture, tries, bias)
        x = x + _cross_attention(x, encoded, layer.cross, architecture, tries, lengths=lengths)
        x = x + feed_forward(x, layer.feed_forward, architecture)
    return rms_norm(x, weights.decoder_norm, architecture.norm_eps) * architecture.logit_scale


def _self_attention(
    x: Tensor,  # [D, H]
    weights: SelfAttention,
    architecture: Architecture,
    tries: Sequence[LabelTrie],
    bias: TreeBias,
) -> Tensor:
    qkv = F.linear(rms_norm(x, weights.norm, architecture.norm_eps), weights.qkv)  # [D, 3·A]
    qkv = qkv.view(-1, 3, architecture.num_heads, architecture.head_dim)
    mixed = []
    for row, trie in zip(torch.split(qkv, [trie.num_nodes for trie in tries]), tries, strict=True):
        query, key, value = row.unbind(1)  # [M, heads, d] each
        # a lone node attends to itself with weight 1
        mixed.append(value.flatten(1) if trie.needs_one_step else attend(query, key, value, bias.of(trie)))
    return F.linear(torch.cat(mixed), weights.out)  # [D, H]


def _cross_attention(
    x: Tensor,  # [D, H]
    encoded: Tensor,  # [N, H]
    weights: CrossAttention,
    architecture: Architecture,
    tries: Sequence[LabelTrie],
    *,
    lengths: list[int],  # [B]
) -> Tensor:
    heads, head_dim = architecture.num_heads, architecture.head_dim
    query = F.linear(rms_norm(x, weights.norm, architecture.norm_eps), weights.query).view(-1, heads, head_dim)
    key_value = F.linear(encoded, weights.key_value).view(-1, 2, heads, head_dim)  # [N, 2, heads, d]
    queries = torch.split(query, [trie.num_nodes for trie in tries])  # B × [M_i, heads, d]
    mixed = []
    for row_query, row in zip(queries, torch.split(key_value, lengths), strict=True):
        row_key, row_value = row.unbind(1)  # [L, heads, d] each
        mixed.append(attend(row_query, row_key, row_value))
    return F.linear(torch.cat(mixed), weights.out)  # [D, H]
