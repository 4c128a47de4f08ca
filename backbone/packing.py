"""Packed batch: rows concatenated without padding, each `[its prompt | its text]`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row before packing: rows of the prompt table, followed by token ids."""

    prompt_rows: Sequence[int]  # [P], indices into the prompt table
    token_ids: Sequence[int]  # [T], the end-of-sequence token included

    @property
    def num_tokens(self) -> int:
        """Length of prompt and text together."""
        return len(self.prompt_rows) + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B rows as index tensors into N packed positions."""

    token_ids: Tensor  # [ΣT_i] int64
    token_positions: Tensor  # [ΣT_i] int64, each token's position in N
    prompt_rows: Tensor  # [ΣP_i] int64, rows of the prompt table
    prompt_positions: Tensor  # [ΣP_i] int64
    offsets: tuple[int, ...]  # [B + 1], row i is offsets[i] : offsets[i + 1]

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_tokens(self) -> int:
        """N = Σ(P_i + T_i)."""
        return self.offsets[-1]


def pack(rows: Sequence[PackedRow], *, device: torch.device | None = None) -> PackedBatch:
    """Concatenate rows into a batch."""
    token_ids: list[int] = []
    token_positions: list[int] = []
    prompt_rows: list[int] = []
    prompt_positions: list[int] = []
    offsets = [0]
    for row in rows:
        start = offsets[-1]
        text_start, end = start + len(row.prompt_rows), start + row.num_tokens
        prompt_rows.extend(row.prompt_rows)
        prompt_positions.extend(range(start, text_start))
        token_ids.extend(row.token_ids)
        token_positions.extend(range(text_start, end))
        offsets.append(end)
    return PackedBatch(
        token_ids=torch.tensor(token_ids, dtype=torch.int64, device=device),
        token_positions=torch.tensor(token_positions, dtype=torch.int64, device=device),
        prompt_rows=torch.tensor(prompt_rows, dtype=torch.int64, device=device),
        prompt_positions=torch.tensor(prompt_positions, dtype=torch.int64, device=device),
        offsets=tuple(offsets),
    )
