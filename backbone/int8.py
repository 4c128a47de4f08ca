"""Linear layer in int8 with one scale per row of activations and per row of weights; products run in oneDNN.

A row's scale depends only on that row. With one scale for the whole matrix a row's answer would depend on the other
rows, for little gain in speed (docs/decisions.md).
"""

from typing import cast

import torch
from torch import Tensor

from backbone.architecture import Activation
from backbone.linear import follow

_ZERO = 128
"""Zero point of the unsigned activations."""
_SMALLEST = 1e-30


class Int8Linear:
    """y = x·Wᵀ with W and x rounded to int8, summed in int32, returned in float32, without gradients."""

    __slots__ = ("_levels", "_packed", "_scales", "_zeros", "twice", "weight")

    def __init__(self, weight: Tensor, *, twice: bool = False) -> None:
        """Quantise a float weight [out, in], scaling each row by its largest value.

        Args:
            twice: quantise x to int8 and the remainder to int8 again, which costs a second product; for a layer whose
                input has outliers, next to which the rest of the row would round to zero
        """
        self._scales = weight.abs().amax(1).clamp_min(_SMALLEST) / 127  # [out]
        self.weight = (weight / self._scales[:, None]).round().to(torch.int8)
        self.twice = twice
        self._packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        # without VNNI the kernel adds pairs of products in 16 bits, which 8-bit activations can overflow
        self._levels = 127.0 if torch.cpu._is_vnni_supported() else 63.0

    @property
    def blocks(self) -> tuple[int, ...]:
        """Empty: sums of integers do not depend on their order."""
        return ()

    def __call__(
        self,
        x: Tensor,
        *,
        activation: Activation | None = None,
        times: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        largest = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_()).clamp_min_(_SMALLEST)
        scaled = x * (self._levels / largest)  # [N, in], in −levels … levels
        rounded = scaled.round()
        y = self._product(rounded, 1.0)
        if self.twice:
            left = scaled.sub_(rounded).mul_(2 * self._levels).round_()  # of −½ … ½
            y += self._product(left, 0.5 / self._levels)
        scale = largest / self._levels  # [N, 1]
        if plus is not None:
            return torch.addcmul(plus, y, scale)
        return follow(y.mul_(scale), activation, times, None)

    def _product(self, whole: Tensor, step: float) -> Tensor:
        """Return `step` · (whole · Wᵀ) for integers in −127 … 127, [N, in] → [N, out]."""
        unsigned = whole.to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO)
        y = torch.ops.onednn.qlinear_pointwise(
            unsigned, step, _ZERO, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return cast(Tensor, y)
