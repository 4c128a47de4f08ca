"""The encoder's attention within each row of a packed batch: row by row, or all rows at once in a padded rectangle.

Row by row does no work for padding, and a row's result cannot depend on the others; a CPU loses nothing by it. On a GPU
its many small kernels would cost more than the padding, which is attention's alone: the linear layers stay packed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.dropout import RowsDropout
from backbone.layers import attend
from backbone.relative_bias import EncoderBias


class RowByRow:
    """One call of the kernel for each row, in the precision of the bias."""

    def __init__(self, lengths: Sequence[int], bias: EncoderBias, drop: RowsDropout | None = None) -> None:
        self._drop = drop
        self._lengths = list(lengths)
        self._biases = [bias.for_length(length) for length in lengths]  # B × [heads, L_i, L_i]

    def __call__(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [N, heads·d]."""
        mixed = []
        rows = torch.split(qkv.to(self._biases[0].dtype), self._lengths)
        for number, (row, bias) in enumerate(zip(rows, self._biases, strict=True)):
            query, key, value = row.unbind(1)  # [L, heads, d] each
            drop = None if self._drop is None else self._drop.row(number)
            mixed.append(attend(query, key, value, bias, drop))
        return torch.cat(mixed)


class Padded:
    """One call for all rows, each padded to the longest; what is padding is masked as a key and dropped as a query."""

    def __init__(self, lengths: Sequence[int], bias: EncoderBias, *, device: torch.device) -> None:
        longest = max(lengths)
        sizes = torch.tensor(lengths, device=device)
        columns = torch.arange(longest, device=device)
        self._real = columns[None, :] < sizes[:, None]  # [B, L]
        starts = sizes.cumsum(0) - sizes
        self._places = (starts[:, None] + columns[None, :]).where(self._real, starts[:, None])  # [B, L] into N
        padding = ~self._real[:, None, None, :]
        self._bias = bias.for_length(longest)[None].masked_fill(padding, float("-inf"))  # [B, heads, L, L]

    def __call__(self, qkv: Tensor) -> Tensor:
        """[N, 3, heads, d] → [N, heads·d]."""
        rows = qkv.index_select(0, self._places.flatten())
        rows = rows.view(*self._places.shape, *qkv.shape[1:])  # [B, L, 3, heads, d]
        query, key, value = rows.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, L, d] each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias, scale=1.0)
        return mixed.transpose(1, 2).flatten(2)[self._real]  # [N, heads·d], in the rows' order
