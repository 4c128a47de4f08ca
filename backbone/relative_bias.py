"""T5's relative-position bias: what attention adds to a score for the distance between query and key.

Raffel et al. 2020, §2.1: near distances have a bucket each, far ones share logarithmic buckets.
"""

import math

import torch
from torch import Tensor


def relative_buckets(
    distance: Tensor,  # [...] int64, key position − query position
    *,
    bidirectional: bool,
    num_buckets: int,
    max_distance: int,
) -> Tensor:
    """The bucket of each distance, same shape, int64 in [0, num_buckets)."""
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
    """The encoder's bias for any row length, from one table that grows by doubling.

    The bias depends on the distance alone, so that of L tokens is the top left L × L corner of a longer one.
    """

    def __init__(self, table: Tensor, *, num_buckets: int, max_distance: int) -> None:
        self._table = table  # [buckets, heads]
        self._num_buckets, self._max_distance = num_buckets, max_distance
        self._largest = self._compute(128)  # [heads, L, L]

    def for_length(self, length: int) -> Tensor:
        """The bias of a row of `length` tokens, [heads, length, length]: a view, not to be written."""
        if length > self._largest.shape[1]:
            self._largest = self._compute(1 << (length - 1).bit_length())
        return self._largest[:, :length, :length]

    @torch.inference_mode(mode=False)  # kept for later calls, which may want gradients
    def _compute(self, length: int) -> Tensor:
        positions = torch.arange(length, device=self._table.device)
        buckets = relative_buckets(
            positions[None, :] - positions[:, None],
            bidirectional=True,
            num_buckets=self._num_buckets,
            max_distance=self._max_distance,
        )
        return self._table[buckets].permute(2, 0, 1).contiguous()  # [heads, L, L]
