"""Runs one batch through the frozen model: load adapters, pack, encode, score. Belongs to the model thread."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch

from backbone import Backbone, PackedRow, Readout, pack
from backbone.pieces import Pause, no_pause
from backbone.staging import staged
from service.catalog.adapter_cache import LoadedAdapter
from service.catalog.learned_labels import LearnedLabels
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

        A row whose search reached its budget has `SearchExhausted` instead. Rows in the server's precision and rows in
        float32 run in a forward each, and so do rows whose adapters would not fit into the prompt table together.
        """
        parts = self._parts(rows)
        if len(parts) == 1:
            return self._forward(rows)
        found: dict[int, RowScores | SearchExhausted] = {}
        for places in parts:
            found.update(zip(places, self._forward([rows[i] for i in places]), strict=True))
        return [found[i] for i in range(len(rows))]

    def _parts(self, rows: Sequence[Row]) -> list[list[int]]:
        """Divide rows into forwards: those of one precision whose adapters fit into the prompt table together."""
        parts: list[list[int]] = []
        by_precision: dict[Backbone | None, list[int]] = {}
        for i, row in enumerate(rows):
            by_precision.setdefault(row.adapter.fp32, []).append(i)
        for places in by_precision.values():
            adapters: set[str] = set()
            room = 0
            for i in places:
                adapter = rows[i].adapter
                if adapter.digest not in adapters:
                    count = _num_table_rows(adapter, self._backbone.width)
                    if not adapters or count > room:
                        parts.append([])
                        adapters.clear()
                        room = self.prompt_table.max_rows
                    adapters.add(adapter.digest)
                    room -= count
                parts[-1].append(i)
        return parts

    def _forward(self, rows: Sequence[Row]) -> list[RowScores | SearchExhausted]:
        """Run rows of one precision."""
        backbone = rows[0].adapter.fp32 or self._backbone
        with torch.inference_mode():
            resident = self.prompt_table.load([row.adapter for row in rows])
            readouts = self._readouts(rows, resident)
            packed_rows, of_row = _packed(rows, resident)
            packed = pack(packed_rows, device=backbone.device)
            encoded = backbone.encode(packed, self.prompt_table.table, pause=self._pause)
            found = backbone.search(
                encoded.of(of_row),
                [readouts[row.adapter.digest] for row in rows],
                [row.top_k for row in rows],
                pause=self._pause,
            )
            scores = found.scores.cpu().numpy()  # [B, K]
        answers: list[RowScores | SearchExhausted] = [
            scores[i, : row.adapter.readout.num_labels] for i, row in enumerate(rows)
        ]
        for row in found.exhausted:
            answers[row] = SearchExhausted()
        return answers

    def _readouts(self, rows: Sequence[Row], resident: Mapping[str, Sequence[int]]) -> dict[str, Readout]:
        """Return each adapter's readout. Learned ones are copied, since a preempting row may evict them."""
        found: dict[str, Readout] = {}
        learned: dict[str, LearnedLabels] = {}
        numbers: list[Sequence[int]] = []
        for adapter in {row.adapter.digest: row.adapter for row in rows}.values():
            if isinstance(adapter.readout, LearnedLabels):
                learned[adapter.digest] = adapter.readout
                numbers.append(resident[adapter.digest][adapter.num_virtual_tokens :])
            else:
                found[adapter.digest] = adapter.readout
        if learned:
            table = self.prompt_table.table
            # one copy for all: a fan-out over 20 heads has 20 readouts in a batch
            copied = table[staged(list(chain.from_iterable(numbers)), table.device)]
            for (digest, readout), part in zip(
                learned.items(), torch.split(copied, list(map(len, numbers))), strict=True
            ):
                found[digest] = readout.vectors(part)
        return found


def _num_table_rows(adapter: LoadedAdapter, width: int) -> int:
    learned = adapter.readout.num_rows(width) if isinstance(adapter.readout, LearnedLabels) else 0
    return adapter.num_virtual_tokens + learned


def _packed(rows: Sequence[Row], resident: Mapping[str, Sequence[int]]) -> tuple[list[PackedRow], list[int]]:
    """Return the rows to encode, and the index of each row's encoded row.

    Rows without a prompt that have the same text and tenant are encoded once. Tenants share nothing, since the time of
    an answer would show one tenant what another asks.
    """
    packed: list[PackedRow] = []
    of_row: list[int] = []
    shared: dict[tuple[str, tuple[int, ...]], int] = {}
    for row in rows:
        place = len(packed)
        if row.adapter.num_virtual_tokens == 0:
            place = shared.setdefault((row.tenant, row.token_ids), place)
        if place == len(packed):
            prompt = resident[row.adapter.digest][: row.adapter.num_virtual_tokens]
            packed.append(PackedRow(prompt, row.token_ids))
        of_row.append(place)
    return packed, of_row
