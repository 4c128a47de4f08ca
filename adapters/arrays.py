"""Checks of an adapter's arrays, and their read-only form."""

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter


def check_type(name: str, array: NDArray[np.float32]) -> None:
    """Refuse another type than float32 (`InvalidAdapter`)."""
    if array.dtype != np.float32:
        raise InvalidAdapter(f"{name} dtype", str(array.dtype), "float32")


def check_finite(name: str, array: NDArray[np.float32]) -> None:
    """Refuse values that are not finite (`InvalidAdapter`)."""
    finite = np.isfinite(array)
    if not finite.all():
        place = np.argwhere(~finite)[0].tolist()
        raise InvalidAdapter(f"{name} values", f"{array[tuple(place)]} at {place}", "finite numbers")


def frozen(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a read-only copy, row by row and little-endian, as digests and files have it."""
    copy = np.ascontiguousarray(array, dtype="<f4").copy()
    copy.setflags(write=False)
    return copy
