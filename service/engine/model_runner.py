"""Runs one batch through the frozen model: load prompts, pack, encode, score. Belongs to the model thread."""

from collections.abc import Callable, Sequence

import torch

from backbone import Backbone, PackedRow, pack
from backbone.pieces import Pause, no_pause
from service.engine.prompt_table import PromptTable
from service.engine.types import Row, RowScores
from service.errors import SearchExhausted

Forward = Callable[[Sequence[Row]], list[RowScores | SearchExhausted]]


class ModelRunner:
    """Turns rows of any mix of tasks into the log-probabilities of each row's labels.

    Args:
        pause: called between the bounded pieces of a forward; it may run another forward before it returns
    """

    def __init__(self, backbone: Backbone, *, prompt_table_bytes: int, pause: Pause = no_pause) -> None:
        self._backbone, self._pause = backbone, pause
        self.prompt_table = PromptTable(width=backbone.width, device=backbone.device, max_bytes=prompt_table_bytes)

    def __call__(self, rows: Sequence[Row]) -> list[RowScores | SearchExhausted]:
        """Return each row's log-probabilities [K_i] in its own label order; −inf for labels that were not scored.

        A row whose search reached its budget has `SearchExhausted` instead.
        """
        with torch.inference_mode():
            prompts = self.prompt_table.load([row.adapter for row in rows])
            packed = pack(
                [PackedRow(prompts[row.adapter.digest], row.token_ids) for row in rows],
                device=self._backbone.device,
            )
            encoded = self._backbone.encode(packed, self.prompt_table.table, pause=self._pause)
            tries, top_k = [row.adapter.trie for row in rows], [row.top_k for row in rows]
            found = self._backbone.search(encoded, tries, top_k, pause=self._pause)
            scores = found.scores.cpu().numpy()  # [B, K]
        answers: list[RowScores | SearchExhausted] = [
            scores[i, : row.adapter.trie.num_labels] for i, row in enumerate(rows)
        ]
        for row in found.exhausted:
            answers[row] = SearchExhausted()
        return answers
