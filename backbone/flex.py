"""Attention over all packed rows in one kernel, `torch.nn.attention.flex_attention`, without rectangles of rows.

The kernel skips blocks of queries and keys that no row has in common, and computes mask and bias from two small
tables: the row of each position and the bias of each distance. Untested on GPU: on a CPU, where the tests run, it
computes the scores of all pairs of positions and is only fit for comparison.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from backbone.relative_bias import EncoderBias
from backbone.staging import staged_together

_BLOCK = 128
"""Positions of a block of queries or keys, the kernel's default."""
_SMALLEST = 1_024
"""Positions of the smallest batch: padding costs no products, and each further size is another kernel to compile."""
_PADDING = -1


class Flex:
    """Attention within each row; positions are padded to a power of two, so that a kernel is compiled for few sizes."""

    def __init__(self, lengths: Sequence[int], bias: EncoderBias, *, device: torch.device) -> None:
        """Describe the rows.

        Args:
            lengths: [B], of rows that follow one another
            bias: in the precision of the attention
            device: where queries, keys and values will be
        """
        num_tokens = sum(lengths)
        positions = padded_positions(num_tokens)
        self._padding = positions - num_tokens
        rows = np.repeat([*range(len(lengths)), _PADDING], [*lengths, self._padding])
        counts, blocks = _key_blocks(lengths, num_blocks=positions // _BLOCK)
        row_of, key_counts, key_blocks = staged_together([rows, counts, blocks.ravel()], device)
        self._dtype = bias.dtype
        by_distance, farthest = bias.by_distance.float(), bias.max_distance

        def same_row(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (row_of[query] == row_of[key]) & (row_of[query] != _PADDING)

        def with_bias(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + by_distance[head, (key - query).clamp(-farthest, farthest) + farthest]

        self.block_mask = BlockMask.from_kv_blocks(
            key_counts.int().view(1, 1, -1),
            key_blocks.int().view(1, 1, len(counts), -1),
            BLOCK_SIZE=_BLOCK,
            mask_mod=same_row,
            seq_lengths=(positions, positions),
            compute_q_blocks=False,
        )
        self._with_bias = with_bias

    def __call__(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [N, heads·d]."""
        padded = F.pad(qkv.to(self._dtype), (0, 0, 0, 0, 0, 0, 0, self._padding))
        query, key, value = padded.permute(1, 2, 0, 3)[:, None].unbind(0)  # [1, heads, positions, d] each
        mixed = _kernel(qkv.device.type)(
            query, key, value, score_mod=self._with_bias, block_mask=self.block_mask, scale=1.0
        )
        return mixed[0].transpose(0, 1).flatten(1)[: len(qkv)]


def padded_positions(num_tokens: int) -> int:
    """Return the number of positions that a kernel computes for a batch, a power of two."""
    return max(_SMALLEST, 1 << (num_tokens - 1).bit_length())


def _key_blocks(lengths: Sequence[int], *, num_blocks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which blocks of keys the rows of each block of queries reach: those from its first row to its last one.

    Returns:
        [Q] numbers of blocks, 0 of padding; [Q, Q] their indices, then other blocks'.
    """
    ends: NDArray[np.int64] = np.cumsum(lengths)
    starts = ends - lengths
    first_position = np.arange(num_blocks) * _BLOCK
    last_position = np.minimum(first_position + _BLOCK, ends[-1]) - 1
    first_row, last_row = np.searchsorted(ends, [first_position, last_position], side="right")
    is_padding = first_position >= ends[-1]
    first = starts[np.where(is_padding, 0, first_row)] // _BLOCK
    counts = (ends[last_row] - 1) // _BLOCK + 1 - first
    return np.where(is_padding, 0, counts), (first[:, None] + np.arange(num_blocks)) % num_blocks


@cache
def _kernel(device_type: str) -> Callable[..., Tensor]:
    """Return the attention of a device: compiled on CUDA, once per number of positions and precision.

    Beyond PyTorch's limit of 8 kernels it raises an error; without `fullgraph` it would compute all pairs of positions.
    """
    kernel = torch.compile(flex_attention, dynamic=False, fullgraph=True) if device_type == "cuda" else flex_attention
    return cast(Callable[..., Tensor], kernel)
