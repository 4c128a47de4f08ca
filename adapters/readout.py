"""`LearnedReadout`: a vector and a bias per label, trained with the prompt, instead of the label words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.arrays import check_finite, check_type, frozen
from adapters.errors import InvalidAdapter

VECTORS, BIAS = "label_vectors", "label_bias"
"""Names of the arrays in files and errors."""
ReadoutKind = Literal["words", "soft", "pooled", "joint"]
"""`words`: the label words, spelled by the decoder; `soft`: label vectors on the decoder's first state; `pooled`: label
vectors on the mean of the encoder's states of the text; `joint`: label vectors on the two concatenated."""
MAX_VECTOR_NORM = 1e4
"""Far above any trained label vector (below 100) and far below an overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedReadout:
    """Label vectors and biases, in the order of the task's labels.

    Raises:
        InvalidAdapter: a wrong type or shape, or values that are not finite or out of bounds
    """

    label_vectors: NDArray[np.float32]  # [K, S·H], of the S states that they score (`num_states`), read-only
    label_bias: NDArray[np.float32]  # [K], read-only

    def __post_init__(self) -> None:
        for name, value, num_axes in ((VECTORS, self.label_vectors, 2), (BIAS, self.label_bias, 1)):
            _check(name, value, num_axes)
            object.__setattr__(self, name, frozen(value))
        if len(self.label_bias) != self.num_labels:
            raise InvalidAdapter(BIAS, f"{len(self.label_bias)} values", f"{self.num_labels}, one per vector")

    @property
    def num_labels(self) -> int:
        """K."""
        return int(self.label_vectors.shape[0])

    @property
    def width(self) -> int:
        """S·H."""
        return int(self.label_vectors.shape[1])

    def to_bytes(self) -> bytes:
        """Return shape and values, as an adapter's digest has them."""
        header = f"readout {self.num_labels} {self.width}\n".encode()
        return header + self.label_vectors.tobytes() + self.label_bias.tobytes()


def num_states(kind: ReadoutKind) -> int:
    """Return the number S of states, of H numbers each, that a learned readout scores."""
    return 2 if kind == "joint" else 1


def schema_version_of(kind: ReadoutKind) -> Literal[1, 2, 3]:
    """Return the version of `superpos.json` that a readout needs."""
    if kind == "words":
        return 1
    return 3 if kind == "joint" else 2


def _check(name: str, value: NDArray[np.float32], num_axes: int) -> None:
    check_type(name, value)
    if value.ndim != num_axes or 0 in value.shape:
        expected = "[labels, width]" if num_axes == 2 else "[labels]"
        raise InvalidAdapter(f"{name} shape", str(list(value.shape)), expected)
    check_finite(name, value)
    norms = np.linalg.norm(value.astype(np.float64), axis=1) if num_axes == 2 else np.abs(value)  # [K]
    if norms.max() > MAX_VECTOR_NORM:
        what = "norm" if num_axes == 2 else "value"
        raise InvalidAdapter(
            f"{name} {what}", f"{norms.max():.3g} of label {norms.argmax()}", f"at most {MAX_VECTOR_NORM:g}"
        )
