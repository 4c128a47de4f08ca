"""Prompts and label vectors that are resident on the model's device. Belongs to the model thread."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.catalog.adapter_cache import LoadedAdapter
from service.memory import release_freed

_INITIAL_ROWS = 1_024
_RELEASE_AFTER_BYTES = 8 << 20
"""Size of the rows that are moved into the table until their former memory is returned to the system."""


@dataclass(frozen=True, slots=True)
class _Resident:
    """An adapter and the table rows that hold its values."""

    rows: NDArray[np.int32]  # [R], a seventh of the memory of a tuple
    adapter: LoadedAdapter


class PromptTable:
    """Adapters by digest in one table [R, H] that doubles in size up to a limit in bytes.

    An adapter's rows are its prompt and its learned readout, if it has one. They need not be adjacent, so adapters of
    any size share the table without gaps. Past the limit the least recently used ones are evicted, but never one that
    the next batch needs. Rows have one owner: loading moves them from the adapter to the table, eviction moves them
    back, so that a batch always finds them in one of the two.
    """

    def __init__(self, *, width: int, device: torch.device, max_bytes: int) -> None:
        self.max_rows = max(_INITIAL_ROWS, max_bytes // (4 * width))
        """The limit, by which `ModelRunner` divides batches; only an adapter that needs more exceeds it."""
        # [R, H], zeroed by numpy: `torch.zeros` starts OpenMP threads for the thread that builds the server
        self._table = torch.from_numpy(np.zeros((_INITIAL_ROWS, width), dtype=np.float32)).to(device)
        self._free = list(range(_INITIAL_ROWS - 1, -1, -1))
        self._resident: OrderedDict[str, _Resident] = OrderedDict()
        self._moved_bytes = 0

    def __len__(self) -> int:
        return len(self._resident)

    @property
    def table(self) -> Tensor:
        """The current table [R, H]."""
        return self._table

    def load(self, adapters: Collection[LoadedAdapter]) -> dict[str, tuple[int, ...]]:
        """Make the adapters of a batch resident.

        Returns:
            the table rows of each digest, valid until the next call
        """
        needed = {adapter.digest: adapter for adapter in adapters}
        for digest in needed:
            if digest in self._resident:
                self._resident.move_to_end(digest)
        for digest, adapter in needed.items():
            if digest not in self._resident:
                self._resident[digest] = self._copy_in(adapter, needed)
        return {digest: tuple(self._resident[digest].rows.tolist()) for digest in needed}

    def evict(self, digest: str) -> None:
        """Move an adapter's rows back to it."""
        resident = self._resident[digest]
        rows = resident.rows.tolist()
        resident.adapter.rows = self._table[rows].cpu().numpy()
        del self._resident[digest]
        self._free.extend(rows)

    def clear(self) -> None:
        """Evict every adapter."""
        for digest in list(self._resident):
            self.evict(digest)

    def _copy_in(self, adapter: LoadedAdapter, needed: Collection[str]) -> _Resident:
        assert adapter.rows is not None, "rows that are not resident are on the host"
        count = len(adapter.rows)
        self._make_room(count, needed)
        rows = self._free[-count:]
        self._table[rows] = torch.from_numpy(adapter.rows.copy()).to(self._table.device)
        del self._free[-count:]  # only after the write, so that a failed write takes no rows
        self._moved_bytes += adapter.rows.nbytes
        adapter.rows = None
        if self._moved_bytes >= _RELEASE_AFTER_BYTES:
            # adapters' rows are between small blocks that stay: without this, each adapter holds its size twice
            release_freed()
            self._moved_bytes = 0
        return _Resident(np.array(rows, dtype=np.int32), adapter)

    def _make_room(self, count: int, needed: Collection[str]) -> None:
        while len(self._free) < count:
            oldest = next(iter(self._resident), None)
            if len(self._table) < self.max_rows or oldest is None or oldest in needed:
                self._grow()
            else:
                self.evict(oldest)

    def _grow(self) -> None:
        """Double the table; the adapters of one batch fit even past the limit."""
        old = len(self._table)
        new = min(2 * old, self.max_rows) if old < self.max_rows else 2 * old
        # free rows are never read, so they are not resident in memory either
        table = self._table.new_empty(new, self._table.shape[1])
        table[:old] = self._table
        self._table = table
        self._free.extend(range(new - 1, old - 1, -1))
