"""One batch through the frozen model: bank, pack, encode, score. Runs on the model thread."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from backbone import Backbone, PackedRow, pack
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.prompt_table import PromptTable


class Row(Protocol):
    """What the forward reads of a row."""

    @property
    def adapter(self) -> LoadedAdapter: ...

    @property
    def token_ids(self) -> tuple[int, ...]: ...

    @property
    def top_k(self) -> int | None: ...

    @property
    def num_tokens(self) -> int: ...


RowScores = NDArray[np.float32]  # [K] log-probabilities in the order of the adapter's labels
Forward = Callable[[Sequence[Row]], list[RowScores]]


class ModelRunner:
    """Rows of any mix of tasks in, each row's label log-probabilities out.

    Args:
        pause: called again and again during a forward; may run another one before this goes on
    """

    def __init__(self, backbone: Backbone, *, bank_bytes: int, pause: Callable[[], None] = lambda: None) -> None:
        self._backbone, self._pause = backbone, pause
        self.bank = PromptTable(width=backbone.width, device=backbone.device, max_bytes=bank_bytes)

    def __call__(self, rows: Sequence[Row]) -> list[RowScores]:
        """Log-probabilities [K_i] of each row in its own task's label order; −inf where not among those asked for."""
        with torch.inference_mode():
            slots = self.bank.slots([row.adapter for row in rows])
            packed = pack(
                [PackedRow(slots[row.adapter.digest], row.token_ids) for row in rows],
                device=self._backbone.device,
            )
            encoded = self._backbone.encode(packed, self.bank.table, pause=self._pause)
            tries, top_k = [row.adapter.trie for row in rows], [row.top_k for row in rows]
            scores = self._backbone.score(encoded, tries, top_k=top_k).cpu().numpy()  # [B, K]
        return [scores[i, : row.adapter.trie.num_labels] for i, row in enumerate(rows)]
