"""Frozen linear layer y = x·Wᵀ, fused with the activation, product or sum that follows it.

Owns the memory layout of a weight for its kernel.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Activation
from backbone.blocks import ROWS_PER_THREAD, alike, block_edges, probe

_POINTWISE = {"relu": ("relu", ""), "gelu_new": ("gelu", "tanh")}


class Linear(Protocol):
    """Interface of a layer in any precision."""

    @property
    def weight(self) -> Tensor:
        """The stored weight, [out, in]."""
        ...

    @property
    def blocks(self) -> tuple[int, ...]:
        """The sizes of the blocks of rows that the layer computes, ascending; empty if it computes any number."""
        ...

    def __call__(
        self,
        x: Tensor,  # [N, in]
        *,
        activation: Activation | None = None,
        times: Tensor | None = None,  # [N, out]
        plus: Tensor | None = None,  # [N, out]
    ) -> Tensor:
        """Return `activation(y)`, `y · times`, `plus + y` or y, [N, out]; at most one of the three is given."""
        ...


class FloatLinear:
    """Layer in floating point. Without gradients on a CPU it runs in oneDNN, with weights in oneDNN's layout.

    In fp32 that is 1.1× as fast as `torch.nn.functional.linear` (MKL) at 2,000 rows, 1.6× at 40 and 2× at 4, with the
    sum and the product fused (benchmarks/engine, docs/decisions.md). The layout is made at the first use.
    """

    __slots__ = ("_blocks", "_candidates", "_has_onednn", "_packed", "weight")

    def __init__(self, weight: Tensor, *, blocks: Sequence[int] | None = None) -> None:
        """Build a layer.

        Args:
            weight: [out, in]
            blocks: sizes of the blocks of rows that it computes (`backbone/blocks.py`); any number of rows by default
        """
        self.weight = weight  # [out, in]
        self._packed: Tensor | None = None
        self._has_onednn = _has_onednn(weight)  # asked here: a forward has 100 products
        self._candidates = blocks
        self._blocks: dict[int, tuple[int, ...]] = {}  # by number of threads

    def __call__(
        self,
        x: Tensor,
        *,
        activation: Activation | None = None,
        times: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        if torch.is_grad_enabled() or not self._has_onednn:
            return follow(F.linear(x.to(self.weight.dtype), self.weight), activation, times, plus)
        x = x.to(self.weight.dtype)
        if self._packed is None:
            self._packed = _packed(self.weight)
        # oneDNN adds operands of one type
        added = plus is not None and plus.dtype == x.dtype
        operand = times if times is not None else plus if added else None
        operation = "mul" if times is not None else "add" if added else None
        if self._candidates is None or x.shape[0] in self.blocks:
            y = _product(x, self._packed, activation, operand, operation)
        else:
            y = self._in_blocks(x, activation, operand, operation)
        return y if plus is None or added else plus + y

    def compact(self) -> "FloatLinear":
        """Return the layer with its weight in oneDNN's layout alone, where it has one; it computes no gradients."""
        if not self._has_onednn:
            return self
        # a weight with a shape and a type, and without memory
        compact = FloatLinear(torch.empty_like(self.weight, device="meta"), blocks=self._candidates)
        compact._packed = _packed(self.weight) if self._packed is None else self._packed
        return compact

    @property
    def blocks(self) -> tuple[int, ...]:
        """The sizes among those of the constructor at which products are added in one order on this machine."""
        if not self._candidates or not self._has_onednn:
            return ()
        threads = torch.get_num_threads()
        if threads not in self._blocks:
            fitting = tuple(size for size in self._candidates if size <= ROWS_PER_THREAD * threads)
            self._blocks[threads] = _alike(fitting, self.weight, threads)
        return self._blocks[threads]

    def _in_blocks(
        self, x: Tensor, activation: Activation | None, operand: Tensor | None, operation: str | None
    ) -> Tensor:
        """Return the layer's result for any number of rows; rows of zeros fill the last block."""
        assert self._packed is not None
        edges = block_edges(len(x), self.blocks)
        missing = edges[-1] - len(x)
        x = F.pad(x, (0, 0, 0, missing))
        operand = None if operand is None else F.pad(operand, (0, 0, 0, missing))
        parts = [
            _product(
                x[first:last], self._packed, activation, None if operand is None else operand[first:last], operation
            )
            for first, last in pairwise(edges)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[: len(x) - missing]


def _packed(weight: Tensor) -> Tensor:
    """Return a weight in oneDNN's layout."""
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TYPICAL_ROWS))


def _product(
    x: Tensor, packed: Tensor, activation: Activation | None, operand: Tensor | None, operation: str | None
) -> Tensor:
    """Return x·Wᵀ with at most one operation fused."""
    kernel = torch.ops.mkldnn._linear_pointwise
    if operand is not None:
        return cast(Tensor, kernel.binary(x, operand, packed, None, operation))
    name, algorithm = _POINTWISE[activation] if activation else ("none", "")
    return cast(Tensor, kernel(x, packed, None, name, [], algorithm))


def _alike(sizes: tuple[int, ...], weight: Tensor, threads: int) -> tuple[int, ...]:
    key = (sizes, weight.shape, weight.dtype, threads)
    if key not in _ALIKE:
        packed = _packed(probe(weight)[1])

        def results(x: Tensor) -> list[Tensor]:
            ones = x.new_ones(len(x), len(weight))
            return [
                _product(x, packed, None, None, None),
                _product(x, packed, "gelu_new", None, None),
                _product(x, packed, "relu", None, None),
                _product(x, packed, None, ones, "mul"),
            ]

        with torch.inference_mode():
            _ALIKE[key] = alike(sizes, weight, results)
    return _ALIKE[key]


_ALIKE: dict[tuple[tuple[int, ...], torch.Size, torch.dtype, int], tuple[int, ...]] = {}
"""Results of probes, by sizes, shape, type and number of threads: layers of one shape share them."""
_TYPICAL_ROWS = 512
"""Number of rows that oneDNN optimises the layout for; the layout is the same from 4 rows to 2,000."""


def follow(y: Tensor, activation: Activation | None, times: Tensor | None, plus: Tensor | None) -> Tensor:
    """Apply the operation that follows a layer, unfused."""
    if activation is not None:
        return torch.relu(y) if activation == "relu" else F.gelu(y, approximate="tanh")
    if times is not None:
        return y * times
    return y if plus is None else plus + y


def _has_onednn(weight: Tensor) -> bool:
    if weight.device.type not in ("cpu", "meta") or not torch._C._has_mkldnn:
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
