"""One batch through the frozen model: bank, pack, encode, score. Runs on the model thread."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from backbone import Backbone, PackedRow, pack
from service.bank import Bank
from service.loaded import LoadedAdapter


class Row(Protocol):
    """What the forward reads of a row."""

    @property
    def adapter(self) -> LoadedAdapter: ...

    @property
    def token_ids(self) -> tuple[int, ...]: ...

    @property
    def num_tokens(self) -> int: ...


RowScores = NDArray[np.float32]  # [K] log-probabilities in the order of the adapter's labels
Forward = Callable[[Sequence[Row]], list[RowScores]]


class BatchForward:
    """Rows of any mix of tasks in, each row's label log-probabilities out."""

    def __init__(self, backbone: Backbone, *, bank_bytes: int) -> None:
        self._backbone = backbone
        self.bank = Bank(width=backbone.width, device=backbone.device, max_bytes=bank_bytes)

    def __call__(self, rows: Sequence[Row]) -> list[RowScores]:
        """Log-probabilities [K_i] of each row in its own task's label order."""
        with torch.inference_mode():
            slots = self.bank.slots([row.adapter for row in rows])
            packed = pack(
                [PackedRow(slots[row.adapter.digest], row.token_ids) for row in rows],
                device=self._backbone.device,
            )
            encoded = self._backbone.encode(packed, self.bank.table)
            scores = self._backbone.score(encoded, [row.adapter.trie for row in rows]).cpu().numpy()  # [B, K]
        return [scores[i, : row.adapter.trie.num_labels] for i, row in enumerate(rows)]
