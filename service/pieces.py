"""Work on the event loop in pieces of bounded size, between which other requests are served.

256 rows of a task with 1,000 labels have half a million numbers. To compute their predictions and to write them as JSON
in one go holds the event loop for 0.4 s and more, during which no other request is read or answered. A thread would not
help: the encoder holds the interpreter's lock while it writes.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

PIECE_VALUES = 2_048
"""Values of one piece, at most 2 ms of work; a single item may have more."""

T = TypeVar("T")
R = TypeVar("R")


async def map_in_pieces(function: Callable[[T], R], items: Sequence[T], *, values_each: int) -> list[R]:
    """Return the function's result for each item.

    Args:
        function: computes one item's result
        items: the items, in order
        values_each: number of values of a result, for example labels
    """
    step = max(1, PIECE_VALUES // max(1, values_each))
    results: list[R] = []
    for first in range(0, len(items), step):
        if first:
            await asyncio.sleep(0)
        results += map(function, items[first : first + step])
    return results
