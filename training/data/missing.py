"""The one definition of a missing value, for every format of rows."""

import math
from decimal import Decimal

MISSING_WORDS = frozenset({"nan", "<na>", "nat", "n/a", "null", "none"})
"""Words that programs write for a missing value, in lower case. As text they are values, but worth a question."""


def is_missing(cell: object) -> bool:
    """Whether a cell holds no value: null, a NaN, or blank text, which is all that CSV and TSV can write."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float | Decimal) and math.isnan(cell))
