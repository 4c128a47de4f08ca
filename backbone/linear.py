"""One frozen linear layer, y = x·Wᵀ, and what follows it (an activation, a product or a sum) in the same kernel.

Owns how a weight lies in memory for its kernel; the mathematics of T5 is elsewhere.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Activation

_POINTWISE = {"relu": ("relu", ""), "gelu_new": ("gelu", "tanh")}


class Linear(Protocol):
    """What the forward asks of a layer, whatever its precision."""

    @property
    def weight(self) -> Tensor:
        """The layer's numbers as it keeps them, [out, in]."""
        ...

    def __call__(
        self,
        x: Tensor,  # [N, in]
        *,
        activation: Activation | None = None,
        times: Tensor | None = None,  # [N, out]
        plus: Tensor | None = None,  # [N, out]
    ) -> Tensor:
        """`activation(y)`, `y · times`, `plus + y`, or y itself: [N, out]. At most one of the three is given."""
        ...


class FloatLinear:
    """A layer in floating point. Without gradients on a CPU it runs in oneDNN, from weights laid out once for it.

    That is 1.1× at 2,000 rows, 1.6× at 40 and 2× at 4 of what `torch.nn.functional.linear` (MKL) does, and the
    sum and the product cost no pass of their own (benchmarks/engine, docs/decisions.md). The laid out copy is
    made at the first use.
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
"""What oneDNN is told to lay weights out for; the layout is the same from 4 rows to 2,000."""


def follow(y: Tensor, activation: Activation | None, times: Tensor | None, plus: Tensor | None) -> Tensor:
    """What follows a layer, as operations of their own."""
    if activation is not None:
        return torch.relu(y) if activation == "relu" else F.gelu(y, approximate="tanh")
    if times is not None:
        return y * times
    return y if plus is None else plus + y


def _has_onednn(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch._C._has_mkldnn
