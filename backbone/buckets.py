"""Attention in bf16 on a CPU: rows of about one length in one kernel call, padded to a multiple of 32 positions.

The kernel takes twice as long for a length that is not such a multiple (`benchmarks/engine`). A row's padding depends
only on its own length, so its result does not depend on the other rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.pieces import CROSS_CELLS, PIECE_CELLS, Progress, spans
from backbone.relative_bias import EncoderBias

_STEP = 32
_WHOLE_MASK = 512
"""Longest padded row whose mask is computed once for all layers."""


def padded_length(length: int) -> int:
    """Return the number of positions of a row with its padding."""
    return -(-length // _STEP) * _STEP


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Rows of one padded length that one kernel call reads."""

    padded: int
    lengths: tuple[int, ...]  # [B]
    start: int  # first slot
    mask: Tensor | None  # [B, heads, padded, padded], the bias, −inf at padded keys; None if a row is too long for one

    @property
    def end(self) -> int:
        return self.start + len(self.lengths) * self.padded


class SelfAttention:
    """The encoder's attention over queries, keys and values that arrive and leave in blocks of packed positions.

    One buffer serves all layers of a forward. Each row has a run of slots in it, as many as its padded length.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        bias: EncoderBias,
        *,
        num_positions: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> None:
        """Assign slots to rows.

        Args:
            lengths: [B]
            bias: in any precision
            num_positions: N and the padding of its last block
            heads: number of heads
            head_dim: width of a head
            dtype: precision of the attention
        """
        self._bias, self._heads, self._head_dim, self._dtype = bias, heads, head_dim, dtype
        self._buckets: list[_Bucket] = []
        starts = [0] * len(lengths)
        num_slots = 0
        for padded in sorted({padded_length(length) for length in lengths}):
            rows = [row for row, length in enumerate(lengths) if padded_length(length) == padded]
            at_once = max(1, PIECE_CELLS // padded**2)
            for first in range(0, len(rows), at_once):
                some = rows[first : first + at_once]
                sizes = tuple(lengths[row] for row in some)
                self._buckets.append(_Bucket(padded, sizes, num_slots, self._mask(padded, sizes)))
                for row in some:
                    starts[row] = num_slots
                    num_slots += padded
        counts = torch.tensor(lengths)
        runs = torch.repeat_interleave(torch.tensor(starts) - counts.cumsum(0) + counts, counts)
        # the padding of the last block has a slot of its own
        self._slots = torch.full((num_positions,), num_slots)
        self._slots[: len(runs)] = runs + torch.arange(len(runs))
        self._inputs = torch.zeros(num_slots + 1, 3 * heads * head_dim, dtype=dtype)
        self._outputs = torch.zeros(num_slots + 1, heads, head_dim, dtype=dtype)
        self._cells = sum(bucket.padded**2 * len(bucket.lengths) for bucket in self._buckets)

    def write(self, first: int, qkv: Tensor) -> None:
        """Take queries, keys and values [n, 3·A] of the packed positions from `first` on."""
        self._inputs.index_copy_(0, self._slots[first : first + len(qkv)], qkv)

    def read(self, first: int, last: int) -> Tensor:
        """Return the results of packed positions, [last − first, A]."""
        return self._outputs.index_select(0, self._slots[first:last]).flatten(1)

    def compute(self, progress: Progress) -> None:
        """Compute the attention of all rows, with pauses between pieces."""
        done = 0
        for bucket in self._buckets:
            shape = (len(bucket.lengths), bucket.padded, 3, self._heads, self._head_dim)
            qkv = self._inputs[bucket.start : bucket.end].view(shape)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, padded, d] each
            mixed = self._outputs[bucket.start : bucket.end].view(*shape[:2], *shape[3:])
            for first, last in spans(bucket.padded, PIECE_CELLS // bucket.padded):
                if done >= PIECE_CELLS:
                    progress.piece(done / self._cells)
                    done = 0
                done += (last - first) * bucket.padded * len(bucket.lengths)
                mask = self._part(bucket, first, last) if bucket.mask is None else bucket.mask[:, :, first:last]
                part = F.scaled_dot_product_attention(query[:, :, first:last], key, value, attn_mask=mask, scale=1.0)
                mixed[:, first:last] = part.transpose(1, 2)

    def _mask(self, padded: int, lengths: Sequence[int]) -> Tensor | None:
        if padded > _WHOLE_MASK:
            return None
        return _without_padding(self._bias.for_lengths([padded])[0].to(self._dtype), lengths)

    def _part(self, bucket: _Bucket, first: int, last: int) -> Tensor:
        """Return the mask of some queries of a long row, [1, heads, last − first, padded]."""
        return _without_padding(self._bias.of_queries(bucket.padded, first, last).to(self._dtype), bucket.lengths)


class CrossAttention:
    """The decoder's attention over encoder states, one kernel call per group of rows with as many nodes.

    The states are keys and values of every layer and head (`backbone/decoder.py`). They are padded once per forward.
    """

    def __init__(self, states: Sequence[Tensor], counts: Sequence[int], *, dtype: torch.dtype) -> None:
        """Pad the states.

        Args:
            states: B × [L_i, H]
            counts: [B], nodes per row
            dtype: precision of the attention
        """
        starts = torch.tensor([0, *counts]).cumsum(0).tolist()
        alike: dict[tuple[int, int], list[int]] = {}
        for row, (state, count) in enumerate(zip(states, counts, strict=True)):
            alike.setdefault((padded_length(len(state)), count), []).append(row)
        self._calls: list[tuple[Tensor, Tensor, Tensor]] = []  # nodes [B, M], keys [B, padded, H], mask [B, 1, padded]
        for (padded, count), rows in alike.items():
            at_once = max(1, CROSS_CELLS // (padded * count))
            for first in range(0, len(rows), at_once):
                some = rows[first : first + at_once]
                lengths = [len(states[row]) for row in some]
                padding = [(0, 0, 0, padded - length) for length in lengths]
                keys = torch.stack([F.pad(states[row], each) for row, each in zip(some, padding, strict=True)]).to(
                    dtype
                )
                mask = _without_padding(keys.new_zeros(1, 1, padded), lengths)[:, 0]
                nodes = torch.tensor([starts[row] for row in some])[:, None] + torch.arange(count)
                for start, end in spans(count, CROSS_CELLS // padded):
                    self._calls.append((nodes[:, start:end], keys, mask))
        self._places = torch.argsort(torch.cat([nodes.flatten() for nodes, _, _ in self._calls]))
        self._cells = sum(nodes.numel() * keys.shape[1] for nodes, keys, _ in self._calls)

    def __call__(self, query: Tensor, progress: Progress) -> Tensor:
        """Return the mixture of the states of each node and head, [D, heads, H] → [D, heads, H]."""
        found: list[Tensor] = []
        done = 0
        for nodes, keys, mask in self._calls:
            if done >= CROSS_CELLS:
                progress.piece(done / self._cells)
                done = 0
            done += nodes.numel() * keys.shape[1]
            queries = query.index_select(0, nodes.flatten()).view(len(keys), -1, query.shape[2])  # [B, M·heads, H]
            found.append(_mixture(queries, keys, mask).view(-1, *query.shape[1:]))
        mixed = torch.cat(found).index_select(0, self._places)
        return F.pad(mixed, (0, 0, 0, 0, 0, len(query) - len(mixed)))


def _mixture(queries: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """Return the attention of queries [B, Q, H] over states [B, L, H] that are keys and values."""
    if not torch.is_grad_enabled():
        keys = states[:, None]
        return F.scaled_dot_product_attention(queries[:, None], keys, keys, attn_mask=mask[:, None], scale=1.0)
    scores = torch.baddbmm(mask, queries, states.mT)
    return torch.bmm(torch.softmax(scores, dim=-1, dtype=torch.float32).to(states.dtype), states)


def _without_padding(bias: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return a bias [heads, q, padded] for each of some rows, −inf at keys after its end, [B, heads, q, padded]."""
    absent = torch.arange(bias.shape[2]) >= torch.tensor(lengths)[:, None]  # [B, padded]
    return torch.where(absent[:, None, None, :], float("-inf"), bias)
