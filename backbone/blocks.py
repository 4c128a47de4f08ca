"""Blocks of rows: the row counts at which a layer in bf16 adds a product's terms in one order.

oneDNN's order depends on the number of rows, so that a row alone would differ in its last bits from the same row in a
batch. A layer therefore computes blocks of a few sizes, which a probe found to add in the same order on this machine.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate

import torch
from torch import Tensor

SMALL_BLOCKS = (4, 8, 16, 32)
"""Sizes of the decoder's blocks. A single row has few nodes, and its time is that of reading the weights."""
LARGE_BLOCKS = (16, 32, 48, 64, 96, 128, 192, 256, 512, 1_024)
"""Sizes of the encoder's blocks. The small ones are for a single text, and for what is left of a batch."""
ROWS_PER_THREAD = 256
"""Largest share of a block that a thread computes: the activations of 256 rows stay in a cache from one operation
to the next, and their products are as fast as those of 2,000 rows (benchmarks/engine)."""
_ROWS_PER_BLOCK = 24
"""Rows that take as long as reading a layer's weights once more: on two cores of an EPYC 55 µs and 2.3 µs a row."""


def block_sizes(length: int, sizes: Sequence[int]) -> list[int]:
    """Divide `length` rows into blocks of the given ascending sizes; the last one may exceed what is left.

    Largest blocks come first. What is left is divided at the least cost: its rows with their padding, and
    `_ROWS_PER_BLOCK` more for each block.
    """
    count = max(0, length - 1) // sizes[-1]
    return [sizes[-1]] * count + list(_cheapest(length - count * sizes[-1], tuple(sizes)))


@cache
def _cheapest(length: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Divide at most the largest size of rows."""
    if length <= 0:
        return ()
    found: list[tuple[int, ...]] = [(next(size for size in sizes if size >= length),)]
    found += [(size, *_cheapest(length - size, sizes)) for size in reversed(sizes) if size < length]
    return min(found, key=lambda blocks: sum(blocks) + _ROWS_PER_BLOCK * len(blocks))


def block_edges(length: int, sizes: Sequence[int]) -> list[int]:
    """Return where the blocks of `length` rows begin and end; the last edge is at or after `length`."""
    return [0, *accumulate(block_sizes(length, sizes))]


def alike(sizes: Sequence[int], weight: Tensor, compute: Callable[[Tensor], Sequence[Tensor]]) -> tuple[int, ...]:
    """Return the sizes at which each result of `compute` has the same bits: of several such groups, the largest.

    The terms of the probe's products cancel out, so that the sums are what rounding left: another order changes most.

    Args:
        sizes: numbers of rows, ascending
        weight: [out, in], of which only shape and type matter
        compute: maps rows [N, in] to products with a probe weight of that shape
    """
    groups: list[tuple[list[Tensor], list[int]]] = []
    row, _ = probe(weight)
    for size in sizes:
        results = compute(row.expand(size, -1).contiguous())
        firsts = [result[0] for result in results]
        if not all(torch.equal(y, first.expand_as(y)) for y, first in zip(results, firsts, strict=True)):
            continue
        for known, members in groups:
            if all(map(torch.equal, known, firsts)):
                members.append(size)
                break
        else:
            groups.append((firsts, [size]))
    # without any the rows of each size differ among themselves; there is nothing better than one size
    return max((tuple(members) for _, members in groups), key=len, default=(sizes[0],))


def probe(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row [1, in] and a weight [out, in] of that shape and type, whose products are zero but for rounding."""
    outer, inner = weight.shape
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(outer + 1, inner // 2, generator=generator)
    order = torch.randperm(2 * (inner // 2), generator=generator)
    minus = torch.cat([-half[:-1], half[-1:]])
    rows = torch.zeros(outer + 1, inner)
    rows[:, : len(order)] = torch.cat([half, minus], dim=1)[:, order]
    rows = rows.to(weight.dtype)
    return rows[-1:], rows[:-1]
