"""Tree decoder: selected nodes of every row's label trie in one pass.

A node attends to itself, its ancestors and its row's encoder states; its position is its depth. The result equals
decoding each label word separately in `transformers`, with shared prefixes computed once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.buckets import CrossAttention
from backbone.dropout import RowsDropout
from backbone.layers import MIN_ROWS, add_projection, at_least_min_rows, attend, feed_forward, rms_norm
from backbone.packing import divide
from backbone.pieces import CROSS_CELLS, PIECE_TOKENS, Pause, Progress, no_pause, spans
from backbone.relative_bias import TreeBias
from backbone.staging import staged
from backbone.trie import PART_NODES, LabelTrie
from backbone.weights import DecoderLayer, T5Weights

_PART_NODES = PART_NODES
_PASS_NODES = PIECE_TOKENS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrieNodes:
    """Nodes of one row's trie in ascending order, including all their ancestors."""

    trie: LabelTrie
    nodes: tuple[int, ...]  # [M]

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)

    @property
    def token_ids(self) -> tuple[int, ...]:
        tokens = self.trie.node_tokens
        return tuple(tokens[node] for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Part:
    """Some nodes of one row's trie with their ancestors; the new nodes are last."""

    row: int
    nodes: TrieNodes
    num_new: int


def passes(tries: Sequence[LabelTrie]) -> list[list[Part]]:
    """Split whole tries into parts, and parts into passes of bounded memory.

    Each node is new in exactly one part, in order. A trie's parts do not depend on the other tries.
    """
    parts = (part for row, trie in enumerate(tries) for part in _parts(row, trie))
    return in_passes(parts, lambda part: part.nodes.num_nodes)


def in_passes(items: Iterable[T], num_nodes: Callable[[T], int]) -> list[list[T]]:
    """Divide items, in order, into passes of bounded memory."""
    return divide(items, num_nodes, at_most=_PASS_NODES)


def _parts(row: int, trie: LabelTrie) -> list[Part]:
    if trie.num_nodes <= _PART_NODES:
        return [Part(row, TrieNodes(trie, tuple(range(trie.num_nodes))), trie.num_nodes)]
    parts = []
    for start in range(0, trie.num_nodes, _PART_NODES):
        new = range(start, min(start + _PART_NODES, trie.num_nodes))
        parts.append(Part(row, TrieNodes(trie, trie.with_ancestors(new)), len(new)))
    return parts


def decode(
    states: Sequence[Tensor],  # B × [L_i, H], the encoder's last hidden states
    rows: Sequence[TrieNodes],  # [B]
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: TreeBias,
    drop: RowsDropout | None = None,
    pause: Pause = no_pause,
) -> Tensor:
    """Return the last hidden states of all rows' nodes, concatenated, [D, H], D = ΣM_i, ready for the head.

    Calls `pause` before each third of a layer, and inside a third that is larger than a piece.
    """
    device = weights.embedding.device
    counts = [row.num_nodes for row in rows]
    total = sum(counts)
    token_ids = [token for row in rows for token in row.token_ids]
    token_ids += [architecture.start_id] * (MIN_ROWS - total)
    progress = Progress(pause)
    trees = _trees(rows, bias, device=device, progress=progress)
    cross = None
    if weights.decoder[0].cross_query.blocks and drop is None:
        cross = CrossAttention(states, counts, dtype=weights.decoder[0].cross_key.dtype)
    third = total / (3 * len(weights.decoder))
    x = weights.embedding[staged(token_ids, device)]  # [D, H]
    x = x if drop is None else drop(x)
    for layer in weights.decoder:
        progress.begin(third)
        x = _self_attention(x, layer, architecture, trees, drop)
        progress.begin(third)
        if cross is None:
            x = _cross_attention(x, states, layer, architecture, counts, drop=drop, progress=progress)
        else:
            x = _cross_attention_in_groups(x, cross, layer, architecture, progress)
        progress.begin(third)
        x = feed_forward(x, layer.feed_forward, architecture, drop)
    progress.begin()
    x = rms_norm(x, architecture.norm_eps)
    x = x if drop is None else drop(x)
    return x[:total] * (weights.decoder_norm * architecture.logit_scale)


@dataclass(frozen=True, slots=True)
class _Trees:
    """Rows with more than one node."""

    positions: Tensor  # [D_t], indices of their nodes in D
    rows: list[int]  # their row numbers
    counts: list[int]  # nodes per row
    biases: list[Tensor]  # [heads, M, M] per row


def _trees(rows: Sequence[TrieNodes], bias: TreeBias, *, device: torch.device, progress: Progress) -> _Trees | None:
    positions: list[int] = []
    first = 0
    numbers = [number for number, row in enumerate(rows) if row.num_nodes > 1]
    if not numbers:
        return None
    for row in rows:
        if row.num_nodes > 1:
            positions.extend(range(first, first + row.num_nodes))
        first += row.num_nodes
    biases = []
    for number in numbers:
        if rows[number].num_nodes >= _PART_NODES:
            progress.piece()
        biases.append(bias.of(rows[number].trie, rows[number].nodes))
    counts = [rows[number].num_nodes for number in numbers]
    return _Trees(staged(positions, device), numbers, counts, biases)


def _self_attention(
    x: Tensor, layer: DecoderLayer, architecture: Architecture, trees: _Trees | None, drop: RowsDropout | None
) -> Tensor:
    """Return the input plus the self-attention block, [D, H]. A single node attends only to itself: to its value."""
    normed = rms_norm(x, architecture.norm_eps)
    heads, head_dim = architecture.num_heads, architecture.head_dim
    values = mixed = layer.value(normed)  # [D, A]
    # dropout of a single node's only probability, 1, in each head
    if drop is not None:
        kept = drop(values.new_ones(len(values), heads))  # [D, heads]
        mixed = (values.view(-1, heads, head_dim) * kept[..., None]).flatten(1)
    if trees is not None:
        query_key = layer.query_key(at_least_min_rows(normed.index_select(0, trees.positions)))  # [D_t, 2·A]
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
    progress: Progress,
) -> Tensor:
    """Return the input plus the cross-attention block, [D, H].

    Keys and values are never computed: q·(W_k h) = (W_kᵀ q)·h, and Σ p W_v h = W_v Σ p h. The D queries and D mixtures
    are multiplied by the two matrices instead of the N states.
    """
    heads = architecture.num_heads
    query = _cross_queries(x, layer, architecture)
    parts: list[Tensor] = []
    cells, all_cells = 0, sum(count * len(state) for count, state in zip(counts, states, strict=True))
    for index, (row, state) in enumerate(zip(torch.split(query[: sum(counts)], counts), states, strict=True)):
        hidden = state.to(query.dtype)  # [L, H]
        most = len(row) if drop is not None else CROSS_CELLS // len(hidden)
        for first, last in spans(len(row), most):
            more = (last - first) * len(hidden)
            if parts and cells + more > CROSS_CELLS:
                progress.piece(cells / all_cells)
                cells = 0
            cells += more
            scores = row[first:last].flatten(0, 1) @ hidden.T  # [M·heads, L]
            probabilities = torch.softmax(scores, dim=-1, dtype=torch.float32)
            probabilities = probabilities if drop is None else drop.row(index)(probabilities)
            parts.append(probabilities.to(hidden.dtype) @ hidden)
    parts.append(query.new_zeros((len(x) - sum(counts)) * heads, x.shape[1]))
    mixed = torch.cat(parts).view(len(x), heads, -1)
    return add_projection(x, layer.cross_out, _cross_values(mixed, layer), drop)


def _cross_attention_in_groups(
    x: Tensor, cross: CrossAttention, layer: DecoderLayer, architecture: Architecture, progress: Progress
) -> Tensor:
    """Return what `_cross_attention` does, without dropout."""
    mixed = cross(_cross_queries(x, layer, architecture), progress)
    return add_projection(x, layer.cross_out, _cross_values(mixed, layer), None)


def _cross_queries(x: Tensor, layer: DecoderLayer, architecture: Architecture) -> Tensor:
    """Return the queries of the states, [D, heads, H]."""
    query = layer.cross_query(rms_norm(x, architecture.norm_eps)).view(len(x), architecture.num_heads, -1)
    return torch.bmm(query.transpose(0, 1), layer.cross_key).transpose(0, 1)


def _cross_values(mixed: Tensor, layer: DecoderLayer) -> Tensor:
    """Return the values of mixed states [D, heads, H], [D, A]."""
    return torch.bmm(mixed.transpose(0, 1), layer.cross_value).transpose(0, 1).flatten(1)
