"""`LearnedReadout`: a vector and a bias per label, trained with the prompt, instead of the label words."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter

ReadoutKind = Literal["words", "soft", "pooled"]
"""`words`: the label words, spelled by the decoder; `soft`: label vectors on the decoder's first state; `pooled`: label
vectors on the mean of the encoder's states of the text."""
MAX_VECTOR_NORM = 1e4
"""Far above any trained label vector (below 100) and far below an overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedReadout:
    """Label vectors and biases, in the order of the task's labels.

    Raises:
        InvalidAdapter: a wrong type or shape, or values that are not finite or out of bounds
    """

    label_vectors: NDArray[np.float32]  # [K, H], read-only
    label_bias: NDArray[np.float32]  # [K], read-only

    def __post_init__(self) -> None:
        for name, value, num_axes in (("label_vectors", self.label_vectors, 2), ("label_bias", self.label_bias, 1)):
            _check(name, value, num_axes)
            frozen = np.ascontiguousarray(value, dtype="<f4").copy()
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)
        if len(self.label_bias) != self.num_labels:
            raise InvalidAdapter("label_bias", f"{len(self.label_bias)} values", f"{self.num_labels}, one per vector")

    @property
    def num_labels(self) -> int:
        """K."""
        return int(self.label_vectors.shape[0])

    @property
    def width(self) -> int:
        """H."""
        return int(self.label_vectors.shape[1])

    def update(self, digest: "hashlib._Hash") -> None:
        """Add the readout to an adapter's digest."""
        digest.update(f"readout {self.num_labels} {self.width}\n".encode())
        digest.update(self.label_vectors.tobytes())
        digest.update(self.label_bias.tobytes())


def _check(name: str, value: NDArray[np.float32], num_axes: int) -> None:
    if value.dtype != np.float32:
        raise InvalidAdapter(f"{name} dtype", str(value.dtype), "float32")
    if value.ndim != num_axes or 0 in value.shape:
        expected = "[labels, width]" if num_axes == 2 else "[labels]"
        raise InvalidAdapter(f"{name} shape", str(list(value.shape)), expected)
    finite = np.isfinite(value)
    if not finite.all():
        place = np.argwhere(~finite)[0].tolist()
        raise InvalidAdapter(f"{name} values", f"{value[tuple(place)]} at {place}", "finite numbers")
    norms = np.linalg.norm(value.astype(np.float64), axis=1) if num_axes == 2 else np.abs(value)  # [K]
    if norms.max() > MAX_VECTOR_NORM:
        what = "norm" if num_axes == 2 else "value"
        raise InvalidAdapter(
            f"{name} {what}", f"{norms.max():.3g} of label {norms.argmax()}", f"at most {MAX_VECTOR_NORM:g}"
        )
