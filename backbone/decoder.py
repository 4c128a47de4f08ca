"""The tree decoder: chosen nodes of every row's label trie in one pass.

A node sees itself and its ancestors, and its own row's encoder states; its position is its depth. That is what
`transformers` computes when it decodes each label word by itself, prefixes computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.dropout import RowsDropout
from backbone.layers import add_projection, attend, feed_forward, rms_norm
from backbone.tree_bias import TreeBias
from backbone.trie import LabelTrie
from backbone.weights import DecoderLayer, T5Weights

_MIN_NODES = 4
"""Matrix kernels for fewer rows add in another order: a row alone would differ in its last bits from the same row
in a batch (docs/decisions.md)."""


@dataclass(frozen=True, slots=True)
class TrieNodes:
    """Nodes of one row's trie, ascending, every one's ancestors among them."""

    trie: LabelTrie
    nodes: tuple[int, ...]  # [M]

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)

    @property
    def token_ids(self) -> tuple[int, ...]:
        tokens = self.trie.node_tokens
        return tuple(tokens[node] for node in self.nodes)


def decode(
    states: Sequence[Tensor],  # B × [L_i, H], the encoder's last hidden states
    rows: Sequence[TrieNodes],  # [B]
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: TreeBias,
    drop: RowsDropout | None = None,
) -> Tensor:
    """The last hidden state of every row's nodes, rows end to end, [D, H], D = ΣM_i, ready for the head."""
    device = weights.embedding.device
    counts = [row.num_nodes for row in rows]
    total = sum(counts)
    token_ids = [token for row in rows for token in row.token_ids]
    token_ids += [architecture.start_id] * (_MIN_NODES - total)
    trees = _trees(rows, bias, device=device)
    x = weights.embedding[torch.tensor(token_ids, device=device)]  # [D, H]
    x = x if drop is None else drop(x)
    for layer in weights.decoder:
        x = _self_attention(x, layer, architecture, trees, drop)
        x = _cross_attention(x, states, layer, architecture, counts, drop=drop)
        x = feed_forward(x, layer.feed_forward, architecture, drop)
    x = rms_norm(x, architecture.norm_eps)
    x = x if drop is None else drop(x)
    return x[:total] * (weights.decoder_norm * architecture.logit_scale)


@dataclass(frozen=True, slots=True)
class _Trees:
    """The rows with more than one node."""

    positions: Tensor  # [D_t] of their nodes among D
    rows: list[int]  # which of the rows they are
    counts: list[int]  # nodes of each
    biases: list[Tensor]  # [heads, M, M] of each


def _trees(rows: Sequence[TrieNodes], bias: TreeBias, *, device: torch.device) -> _Trees | None:
    positions: list[int] = []
    first = 0
    numbers = [number for number, row in enumerate(rows) if row.num_nodes > 1]
    if not numbers:
        return None
    for row in rows:
        if row.num_nodes > 1:
            positions.extend(range(first, first + row.num_nodes))
        first += row.num_nodes
    return _Trees(
        torch.tensor(positions, device=device),
        numbers,
        [rows[number].num_nodes for number in numbers],
        [bias.of(rows[number].trie, rows[number].nodes) for number in numbers],
    )


def _self_attention(
    x: Tensor, layer: DecoderLayer, architecture: Architecture, trees: _Trees | None, drop: RowsDropout | None
) -> Tensor:
    """The input plus the self-attention block, [D, H]. A lone node attends to itself alone: it takes its value."""
    normed = rms_norm(x, architecture.norm_eps)
    heads, head_dim = architecture.num_heads, architecture.head_dim
    values = mixed = layer.value(normed)  # [D, A]
    if drop is not None:  # of the one probability, 1, that a lone node has in each head
        kept = drop(values.new_ones(len(values), heads))  # [D, heads]
        mixed = (values.view(-1, heads, head_dim) * kept[..., None]).flatten(1)
    if trees is not None:
        query_key = layer.query_key(_at_least_four(normed.index_select(0, trees.positions)))  # [D_t, 2·A]
        query_key = query_key[: len(trees.positions)].view(-1, 2, heads, head_dim)
        value = values.index_select(0, trees.positions).view(-1, heads, head_dim)
        parts = [
            attend(row[:, 0], row[:, 1], row_value, row_bias, None if drop is None else drop.row(index))
            for row, row_value, row_bias, index in zip(
                torch.split(query_key, trees.counts),
                torch.split(value, trees.counts),
                trees.biases,
                trees.rows,
                strict=True,
            )
        ]
        mixed = mixed.index_copy(0, trees.positions, torch.cat(parts))
    return add_projection(x, layer.out, mixed, drop)


def _cross_attention(
    x: Tensor,  # [D, H]
    states: Sequence[Tensor],  # B × [L_i, H]
    layer: DecoderLayer,
    architecture: Architecture,
    counts: list[int],  # [B]
    *,
    drop: RowsDropout | None,
) -> Tensor:
    """The input plus the cross-attention block, [D, H].

    Keys and values are never computed: q·(W_k h) = (W_kᵀ q)·h, and Σ p W_v h = W_v Σ p h. The D queries and the D
    mixtures go through the two matrices, not the N states.
    """
    heads = architecture.num_heads
    query = layer.cross_query(rms_norm(x, architecture.norm_eps)).view(len(x), heads, -1).transpose(0, 1)
    query = torch.bmm(query, layer.cross_key).transpose(0, 1)  # [D, heads, H]
    parts = []
    for index, (row, state) in enumerate(zip(torch.split(query[: sum(counts)], counts), states, strict=True)):
        hidden = state.to(query.dtype)  # [L, H]
        scores = row.flatten(0, 1) @ hidden.T  # [M·heads, L]
        probabilities = torch.softmax(scores, dim=-1, dtype=torch.float32)
        probabilities = probabilities if drop is None else drop.row(index)(probabilities)
        parts.append(probabilities.to(hidden.dtype) @ hidden)
    parts.append(query.new_zeros((len(x) - sum(counts)) * heads, x.shape[1]))
    mixed = torch.cat(parts).view(len(x), heads, -1).transpose(0, 1)  # [heads, D, H]
    mixed = torch.bmm(mixed, layer.cross_value)  # [heads, D, d]
    return add_projection(x, layer.cross_out, mixed.transpose(0, 1).flatten(1), drop)


def _at_least_four(x: Tensor) -> Tensor:
    missing = _MIN_NODES - len(x)
    return x if missing <= 0 else torch.cat([x, x[:1].expand(missing, -1)])
