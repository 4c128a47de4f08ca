"""Packed batch: rows concatenated without padding, each `[its prompt | its text]`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from backbone.staging import staged_together

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row before packing: rows of the prompt table, followed by token ids."""

    prompt_rows: Sequence[int]  # [P], indices into the prompt table
    token_ids: Sequence[int]  # [T], the end-of-sequence token included

    @property
    def num_tokens(self) -> int:
        """Length of prompt and text together."""
        return len(self.prompt_rows) + len(self.token_ids)


class RowSpan(NamedTuple):
    """A row's place among the N packed positions: its prompt from `start`, its text from `text_start` to `end`."""

    start: int
    text_start: int
    end: int

    @property
    def length(self) -> int:
        """Number of positions."""
        return self.end - self.start


def rows_of(x: Tensor, spans: Sequence[RowSpan]) -> list[Tensor]:
    """Return the positions of each row of a packed tensor [N, …]."""
    if _are_consecutive(spans):
        # the gradient of a split is one concatenation, that of each slice a tensor of all positions
        return list(torch.split(x[spans[0].start : spans[-1].end], [span.length for span in spans]))
    return [x[span.start : span.end] for span in spans]


def texts_of(x: Tensor, spans: Sequence[RowSpan]) -> list[Tensor]:
    """Return the positions of each row's text of a packed tensor [N, …]."""
    if _are_consecutive(spans):
        whole = x[spans[0].start : spans[-1].end]
        lengths = [length for span in spans for length in (span.text_start - span.start, span.end - span.text_start)]
        return list(torch.split(whole, lengths)[1::2])
    return [x[span.text_start : span.end] for span in spans]


def _are_consecutive(spans: Sequence[RowSpan]) -> bool:
    return bool(spans) and all(one.end == other.start for one, other in pairwise(spans))


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B rows as index tensors into N packed positions."""

    token_ids: Tensor  # [ΣT_i] int64
    token_positions: Tensor  # [ΣT_i] int64, each token's position in N
    prompt_rows: Tensor  # [ΣP_i] int64, rows of the prompt table
    prompt_positions: Tensor  # [ΣP_i] int64
    spans: tuple[RowSpan, ...]  # [B]

    @property
    def num_rows(self) -> int:
        return len(self.spans)

    @property
    def num_tokens(self) -> int:
        """N = Σ(P_i + T_i)."""
        return self.spans[-1].end if self.spans else 0


def pack(rows: Sequence[PackedRow], *, device: torch.device | None = None) -> PackedBatch:
    """Concatenate rows into a batch."""
    token_ids: list[int] = []
    token_positions: list[int] = []
    prompt_rows: list[int] = []
    prompt_positions: list[int] = []
    spans: list[RowSpan] = []
    for row in rows:
        start = spans[-1].end if spans else 0
        text_start, end = start + len(row.prompt_rows), start + row.num_tokens
        prompt_rows.extend(row.prompt_rows)
        prompt_positions.extend(range(start, text_start))
        token_ids.extend(row.token_ids)
        token_positions.extend(range(text_start, end))
        spans.append(RowSpan(start, text_start, end))
    tokens, at_tokens, prompts, at_prompts = staged_together(
        [token_ids, token_positions, prompt_rows, prompt_positions], device
    )
    return PackedBatch(tokens, at_tokens, prompts, at_prompts, tuple(spans))


def divide(items: Iterable[T], size: Callable[[T], int], *, at_most: float) -> list[list[T]]:
    """Divide items, in order, into groups of at most a total size; a larger item is a group of its own."""
    groups: list[list[T]] = []
    total = 0
    for item in items:
        more = size(item)
        if not groups or total + more > at_most:
            groups.append([])
            total = 0
        groups[-1].append(item)
        total += more
    return groups
