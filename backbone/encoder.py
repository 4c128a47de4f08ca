"""Packed encoder: every linear layer sees one [N, H] matrix, attention stays within each row.

On a CPU attention runs row by row: no work for padding, and no row depends on the others. On a GPU it runs once per
group of rows of about one length, padded to a rectangle: many small kernels cost more there than the padding. With
`flex` it runs once for all rows. The linear layers stay packed.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Architecture
from backbone.blocks import block_edges
from backbone.buckets import SelfAttention
from backbone.dropout import Dropout, RowsDropout
from backbone.flex import Flex
from backbone.layers import add_projection, attend, feed_forward, inner_features, rms_norm
from backbone.packing import PackedBatch
from backbone.pieces import PIECE_CELLS, Pause, Progress, in_pieces, no_pause, paused, spans
from backbone.relative_bias import EncoderBias
from backbone.staging import staged_together
from backbone.weights import EncoderLayer, T5Weights

Attention = Literal["sdpa", "flex"]
"""Ways to compute the encoder's attention without gradients and dropout: `sdpa` by PyTorch's kernels for one row or one
rectangle of rows, `flex` by one kernel for all rows (`backbone/flex.py`)."""
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

_WHOLE_BIAS = 1_024
"""Tokens of the longest row whose bias is computed once for all layers: 25 MB at 6 heads."""


def embed(packed: PackedBatch, embedding: Tensor, prompts: Tensor) -> Tensor:
    """Return token embeddings and prompt rows in packed order, [N, H]. Only `prompts` [R, H] can receive a gradient."""
    x = embedding.new_empty(packed.num_tokens, embedding.shape[1])  # [N, H]
    x = x.index_copy(0, packed.token_positions, embedding[packed.token_ids])
    return x.index_copy(0, packed.prompt_positions, prompts.index_select(0, packed.prompt_rows))


def encode(
    packed: PackedBatch,
    prompts: Tensor,  # [R, H]
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: EncoderBias,
    attention: Attention = "sdpa",
    pause: Pause = no_pause,
    dropout: Dropout | None = None,
) -> Tensor:
    """Return the encoder's last hidden states, [N, H], normalised; that norm's weight is folded into the decoder.

    Calls `pause` before each half of a layer, after `prompts` has been read, and inside a half that is larger than a
    piece.
    """
    lengths = [span.length for span in packed.spans]
    device = weights.embedding.device
    blocks = weights.encoder[0].qkv.blocks
    flex = attention == "flex" and dropout is None and not torch.is_grad_enabled()
    if blocks and dropout is None and not torch.is_grad_enabled() and not flex:
        return _encode_in_blocks(
            packed, prompts, blocks, weights=weights, architecture=architecture, bias=bias, progress=Progress(pause)
        )
    drop = None if dropout is None else dropout.of(lengths)
    progress = Progress(pause)
    attend = Flex(lengths, bias, device=device) if flex else _attention(lengths, bias, drop, device, progress)
    half = packed.num_tokens / (2 * len(weights.encoder))
    x = embed(packed, weights.embedding, prompts)
    x = x if drop is None else drop(x)
    for layer in weights.encoder:
        progress.begin(half)
        qkv = in_pieces(partial(_qkv, layer, architecture), x, progress)  # [N, 3·A]
        mixed = attend(qkv.view(-1, 3, architecture.num_heads, architecture.head_dim))  # [N, A]
        x = add_projection(x, layer.out, mixed, drop)
        progress.begin(half)
        x = in_pieces(partial(_feed_forward, layer, architecture, drop), x, progress)
    progress.begin()
    x = rms_norm(x, architecture.norm_eps)
    return x if drop is None else drop(x)


def _encode_in_blocks(
    packed: PackedBatch,
    prompts: Tensor,
    blocks: Sequence[int],
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: EncoderBias,
    progress: Progress,
) -> Tensor:
    """Return what `encode` does, without gradients, by layers that compute blocks of rows.

    A block passes through all operations between two attentions while it is in the cache. The residual stream and its
    norms are in float32, all else in the layers' precision: 32 mixed rows take 0.5 of the time of whole matrices with
    an attention call per row (benchmarks/engine).
    """
    edges = block_edges(packed.num_tokens, blocks)
    eps = architecture.norm_eps
    x = embed(packed, weights.embedding, prompts)
    x = F.pad(x, (0, 0, 0, edges[-1] - len(x)))  # [N and the last block's padding, H]
    attention = SelfAttention(
        [span.length for span in packed.spans],
        bias,
        num_positions=edges[-1],
        heads=architecture.num_heads,
        head_dim=architecture.head_dim,
        dtype=weights.encoder[0].qkv.weight.dtype,
    )
    half = packed.num_tokens / (2 * len(weights.encoder))
    for layer in weights.encoder:
        progress.begin(half)
        for first, last in paused(edges, progress):
            attention.write(first, layer.qkv(rms_norm(x[first:last], eps)))
        attention.compute(progress)
        progress.begin(half)
        for first, last in paused(edges, progress):
            part = x[first:last]
            part += layer.out(attention.read(first, last))
            inner = inner_features(rms_norm(part, eps), layer.feed_forward, architecture)
            part += layer.feed_forward.out(inner)
    progress.begin()
    return rms_norm(x, eps)[: packed.num_tokens]


def _attention(
    lengths: Sequence[int], bias: EncoderBias, drop: RowsDropout | None, device: torch.device, progress: Progress
) -> "RowByRow | Padded":
    # the padded rectangle does not support dropout, which only an ablation uses
    if drop is not None or device.type == "cpu":
        return RowByRow(lengths, bias, drop, progress=progress)
    return Padded(lengths, bias, device=device)


def _qkv(layer: EncoderLayer, architecture: Architecture, x: Tensor) -> Tensor:
    return layer.qkv(rms_norm(x, architecture.norm_eps))


def _feed_forward(layer: EncoderLayer, architecture: Architecture, drop: RowsDropout | None, x: Tensor) -> Tensor:
    return feed_forward(x, layer.feed_forward, architecture, drop)


class RowByRow:
    """Attention in the precision of the bias, with one kernel call per row.

    A row with more pairs of positions than a piece takes one call per part of its queries. Up to `_WHOLE_BIAS` tokens
    the whole bias of a row is in memory; for a longer row it is computed part by part.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        bias: EncoderBias,
        drop: RowsDropout | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        self._drop, self._bias, self._progress = drop, bias, progress or Progress(no_pause)
        self._lengths = list(lengths)
        self._cells = sum(length**2 for length in lengths)
        whole = [length for length in lengths if length <= _WHOLE_BIAS]
        self._biases = dict(zip(whole, bias.for_lengths(whole), strict=True))  # L → [heads, L, L]

    def __call__(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [N, heads·d]."""
        mixed: list[Tensor] = []
        cells = 0
        for number, row in enumerate(torch.split(qkv.to(self._bias.dtype), self._lengths)):
            query, key, value = row.unbind(1)  # [L, heads, d] each
            drop = None if self._drop is None else self._drop.row(number)
            for first, last in spans(len(row), len(row) if drop else PIECE_CELLS // len(row)):
                more = (last - first) * len(row)
                if mixed and cells + more > PIECE_CELLS:
                    self._progress.piece(cells / self._cells)
                    cells = 0
                cells += more
                mixed.append(attend(query[first:last], key, value, self._of_queries(len(row), first, last), drop))
        return torch.cat(mixed)

    def _of_queries(self, length: int, first: int, last: int) -> Tensor:
        """Return a part of a row's bias, [heads, last − first, length]."""
        whole = self._biases.get(length)
        return self._bias.of_queries(length, first, last) if whole is None else whole[:, first:last]


class Padded:
    """Attention with one kernel call per group of rows, padded to the group's longest row.

    A row is less than half padding: its group holds rows between a power of two and the next. One long row among many
    short ones would otherwise make a mask of rows × heads × longest².
    """

    def __init__(self, lengths: Sequence[int], bias: EncoderBias, *, device: torch.device) -> None:
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            groups.setdefault((length - 1).bit_length(), []).append(row)
        offsets = [0, *accumulate(lengths)]
        self._groups = [
            _Rectangle([lengths[row] for row in rows], [offsets[row] for row in rows], bias, device=device)
            for rows in groups.values()
        ]

    def __call__(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [N, heads·d]."""
        mixed = qkv.new_empty(len(qkv), qkv.shape[2] * qkv.shape[3])
        for group in self._groups:
            mixed = mixed.index_copy(0, group.positions, group.attend(qkv))
        return mixed


class _Rectangle:
    """Rows of one group, padded to the longest; padded keys are masked, padded queries dropped.

    `positions` are those of the rows' tokens in N, in the order of the rows.
    """

    def __init__(self, lengths: list[int], starts: list[int], bias: EncoderBias, *, device: torch.device) -> None:
        sizes, firsts = np.array(lengths), np.array(starts)[:, None]
        longest = max(lengths)
        columns = np.arange(longest)
        real = columns < sizes[:, None]  # [B, L]
        # padding reads the row's first token
        places = np.where(real, firsts + columns, firsts)  # [B, L] into N
        # found on the host, since a device's count of real positions would have to be waited for
        self._places, self._real, self.positions, on_device = staged_together(
            [places.ravel(), np.flatnonzero(real), places[real], sizes], device
        )
        padding = torch.arange(longest, device=device)[None, :] >= on_device[:, None]  # [B, L]
        bias_of_rows = bias.for_lengths([longest])[0][None]
        self._bias = bias_of_rows.masked_fill(padding[:, None, None, :], float("-inf"))  # [B, heads, L, L]
        self._shape = len(lengths), longest

    def attend(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [tokens of the group, heads·d]."""
        rows = qkv.index_select(0, self._places).view(*self._shape, *qkv.shape[1:])  # [B, L, 3, heads, d]
        query, key, value = rows.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, L, d] each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias, scale=1.0)
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, self._real)
