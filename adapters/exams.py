"""Comparison of two versions on the same rows, from what their manifests record about them."""

import base64
import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import PromptAdapter

ROWS_SHA256 = "report_rows_sha256"
"""Entry of a provenance's `data` that names the report rows by their content."""
RIGHT = "report_right"
"""Entry with one bit per report row, in the order of the rows' content: whether the answer is right."""
MAX_PAIRED_ROWS = 20_000
_Z = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of one version less that of another on the same rows, with a 95 % interval."""

    difference: float
    low: float
    high: float
    rows: int

    @property
    def is_worse(self) -> bool:
        """Whether the rows show that the first version is worse: the whole interval is below 0."""
        return self.high < 0

    def __str__(self) -> str:
        bounds = f"95 % interval {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.difference:+.3f} on the same {self.rows} rows, {bounds}"


def exam_of(adapter: PromptAdapter) -> str | None:
    """Return the name of the rows that an adapter's report metrics are from; None for an adapter that names none."""
    found = adapter.manifest.provenance.data.get(ROWS_SHA256)
    return None if found is None else str(found)


def paired_difference(candidate: PromptAdapter, current: PromptAdapter) -> PairedDifference | None:
    """Compare two adapters row by row; None if one of them does not record its rows or they differ."""
    if exam_of(candidate) is None or exam_of(candidate) != exam_of(current):
        return None
    ours, theirs = (_right(adapter) for adapter in (candidate, current))
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    return difference_of(ours, theirs)


def difference_of(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> PairedDifference:
    """Return the difference of two accuracies on the same rows.

    The interval is the adjusted Wald interval of Bonett and Price (2012), "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data".

    Args:
        ours: which rows one version answers right, [N]
        theirs: which of them the other answers right, [N]
    """
    gained, lost, rows = int((ours & ~theirs).sum()), int((~ours & theirs).sum()), len(ours)
    better, worse = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    centre = better - worse
    margin = _Z * math.sqrt((better + worse - centre**2) / (rows + 2))
    return PairedDifference((gained - lost) / rows, max(-1.0, centre - margin), min(1.0, centre + margin), rows)


def packed(right: NDArray[np.bool_]) -> str:
    """Return bits as text: their number, then Base64 of their compressed bytes."""
    return f"{len(right)}:{base64.b64encode(zlib.compress(np.packbits(right).tobytes(), 9)).decode()}"


def _right(adapter: PromptAdapter) -> NDArray[np.bool_] | None:
    """Return the bits of an adapter, or None if it has none that can be read; its author is not trusted."""
    count, separator, text = str(adapter.manifest.provenance.data.get(RIGHT, "")).partition(":")
    if not (separator and count.isdecimal() and len(count) <= 5 and 0 < int(count) <= MAX_PAIRED_ROWS):
        return None
    size = (int(count) + 7) // 8
    try:
        inflated = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, zlib.error):
        return None
    if len(inflated) != size:
        return None
    return np.unpackbits(np.frombuffer(inflated, np.uint8))[: int(count)].astype(np.bool_)
