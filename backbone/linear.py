"""Frozen linear layer y = x·Wᵀ, fused with the activation, product or sum that follows it.

Owns the memory layout of a weight for its kernel.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Activation

_POINTWISE = {"relu": ("relu", ""), "gelu_new": ("gelu", "tanh")}


class Linear(Protocol):
    """Interface of a layer in any precision."""

    @property
    def weight(self) -> Tensor:
        """The stored weight, [out, in]."""
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

    That is 1.1× as fast as `torch.nn.functional.linear` (MKL) at 2,000 rows, 1.6× at 40 and 2× at 4, with the sum and
    the product fused (benchmarks/engine, docs/decisions.md). The layout is made at the first use.
    """

    __slots__ = ("_packed", "weight")

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight  # [out, in]
        self._packed: Tensor | None = None

    def __call__(
        self,
        x: Tensor,
        *,
        activation: Activation | None = None,
        times: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        if torch.is_grad_enabled() or not _has_onednn(self.weight):
            return follow(F.linear(x.to(self.weight.dtype), self.weight), activation, times, plus)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), _TYPICAL_ROWS)
        kernel = torch.ops.mkldnn._linear_pointwise
        if times is not None:
            return kernel.binary(x, times, self._packed, None, "mul")  # type: ignore[no-any-return]
        if plus is not None:
            return kernel.binary(x, plus, self._packed, None, "add")  # type: ignore[no-any-return]
        name, algorithm = _POINTWISE[activation] if activation else ("none", "")
        return kernel(x, self._packed, None, name, [], algorithm)  # type: ignore[no-any-return]


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
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch._C._has_mkldnn
