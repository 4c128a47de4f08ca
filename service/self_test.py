"""The self-test of batch invariance: a row's scores must not depend on the rows that share its batch.

Kernels choose other summation orders for other shapes, and a quantised kernel may even take its scale from all rows at
once: what holds on one machine is measured again on each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backbone import TOLERANCES, Backbone
from service.forward import Forward, RowScores
from service.synthetic import Shape, synthetic_rows

_SHAPES = (
    Shape(num_virtual_tokens=10, num_text_tokens=12, label_tokens=(1, 1)),
    Shape(num_virtual_tokens=1, num_text_tokens=1, label_tokens=(1, 1, 1, 1)),
    Shape(num_virtual_tokens=20, num_text_tokens=40, label_tokens=(2, 3, 1, 2, 2, 1)),
    Shape(num_virtual_tokens=10, num_text_tokens=25, label_tokens=(1, 1, 1)),
    Shape(num_virtual_tokens=5, num_text_tokens=7, label_tokens=(3, 3, 4, 4, 1, 1, 2, 2, 1, 1)),
    Shape(num_virtual_tokens=10, num_text_tokens=33, label_tokens=(1, 2)),
    Shape(num_virtual_tokens=3, num_text_tokens=18, label_tokens=(2, 2)),
)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the self-test found."""

    rows: int
    batches: int
    max_difference: float
    """The largest |Δ log p| of a row between running alone and in a batch; ∞ where scores were no numbers."""
    tolerance: float

    @property
    def bit_identical(self) -> bool:
        return self.max_difference == 0

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.rows} rows in {self.batches} batches differ by up to {self.max_difference:.3g} in log-probability "
            f"from themselves alone, at most {self.tolerance:g} is allowed"
        )


def run_self_test(forward: Forward, backbone: Backbone) -> SelfTest:
    """Run rows alone and in batches of different neighbours, and compare. On the model thread."""
    rows = synthetic_rows(backbone, _SHAPES)
    alone = [forward([row])[0] for row in rows]
    batches = _batches(range(len(rows)))
    worst = 0.0
    for batch in batches:
        together = forward([rows[index] for index in batch])
        worst = max(worst, *(_difference(alone[i], scores) for i, scores in zip(batch, together, strict=True)))
    return SelfTest(len(rows), len(batches), worst, TOLERANCES[backbone.precision])


def _batches(indices: Sequence[int]) -> list[Sequence[int]]:
    """Every row with many neighbours, with few, and with itself."""
    return [indices, indices[::-1], indices[::2], indices[1::2], [indices[0], *indices[:3]]]


def _difference(alone: RowScores, together: RowScores) -> float:
    if not (np.isfinite(alone).all() and np.isfinite(together).all()):
        return float("inf")
    return float(np.abs(alone - together).max())
