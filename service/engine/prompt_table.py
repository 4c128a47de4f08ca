"""The bank: the resident table of prompts on the model's device. Only the model thread touches it."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from service.catalog.adapter_cache import LoadedAdapter

_FIRST_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class _Slot:
    """The rows that one prompt holds, and the adapter that it was taken from."""

    rows: tuple[int, ...]
    adapter: LoadedAdapter


class PromptTable:
    """Prompts by digest in one table [R, H] that grows by doubling up to a limit in bytes.

    A slot's rows need not stand together, so prompts of any length share the table without gaps. Past the limit the
    least recently used leave, never one that the coming batch needs. A prompt is kept once: the adapter gives its
    copy up when it moves in and has it back when it moves out, so that no row can find its prompt nowhere.
    """

    def __init__(self, *, width: int, device: torch.device, max_bytes: int) -> None:
        self._max_rows = max(_FIRST_ROWS, max_bytes // (4 * width))
        self._table = torch.zeros(_FIRST_ROWS, width, device=device)  # [R, H]
        self._free = list(range(_FIRST_ROWS - 1, -1, -1))
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def table(self) -> Tensor:
        """The prompt table [R, H] as it is now."""
        return self._table

    def slots(self, adapters: Collection[LoadedAdapter]) -> dict[str, tuple[int, ...]]:
        """Make a batch's adapters resident.

        Returns:
            each digest's rows in the table, valid until the next call
        """
        needed = {adapter.digest: adapter for adapter in adapters}
        for digest in needed:
            if digest in self._slots:
                self._slots.move_to_end(digest)
        for digest, adapter in needed.items():
            if digest not in self._slots:
                self._slots[digest] = self._move_in(adapter, needed)
        return {digest: self._slots[digest].rows for digest in needed}

    def clear(self) -> None:
        """Let every prompt go."""
        for digest in list(self._slots):
            self._move_out(digest)

    def _move_in(self, adapter: LoadedAdapter, needed: Collection[str]) -> _Slot:
        assert adapter.prompt is not None, "a prompt that is not in the bank is on the host"
        count = len(adapter.prompt)
        self._make_room(count, needed)
        rows = self._free[-count:]
        self._table[rows] = torch.from_numpy(adapter.prompt.copy()).to(self._table.device)  # [P, H]
        del self._free[-count:]  # only now: a prompt that cannot be written takes no rows
        adapter.prompt = None
        return _Slot(tuple(rows), adapter)

    def _move_out(self, digest: str) -> None:
        slot = self._slots[digest]
        slot.adapter.prompt = self._table[list(slot.rows)].cpu().numpy()  # [P, H]
        del self._slots[digest]
        self._free.extend(slot.rows)

    def _make_room(self, count: int, needed: Collection[str]) -> None:
        while len(self._free) < count:
            oldest = next(iter(self._slots), None)
            if len(self._table) < self._max_rows or oldest is None or oldest in needed:
                self._grow()
            else:
                self._move_out(oldest)

    def _grow(self) -> None:
        """Double the table; the prompts of one batch have a place even past the limit."""
        old = len(self._table)
        new = min(2 * old, self._max_rows) if old < self._max_rows else 2 * old
        table = self._table.new_empty(new, self._table.shape[1])  # rows without a slot are never read nor, so, resident
        table[:old] = self._table
        self._table = table
        self._free.extend(range(new - 1, old - 1, -1))
