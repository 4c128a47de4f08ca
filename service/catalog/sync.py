"""Fills the catalog with the registry's present state, then polls its change log for what is new.

Each poll reads the last known entry again. If that entry is missing or different, the registry has lost entries
(restarted from an older state, or failed over to a replica that lagged), and its state is read again as at the start.
It is also read again if the log was trimmed beyond the point that this server had read.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from adapters import Change, Registry, RegistryUnavailable
from adapters.registry.protocol import Snapshot
from adapters.registry.trimming import is_behind
from service.catalog.catalog import Catalog
from service.catalog.history import HistoryReader
from service.periodic import PeriodicTask

_HISTORY_INTERVAL_S = 1.0
"""Between two looks whether the catalog lacks its history, and after an outage."""
_log = structlog.get_logger("service")


class CatalogSync:
    """Polls a registry's log and applies new entries to the catalog.

    Args:
        on_changes: receives the new entries once they are applied
    """

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        *,
        poll_interval_s: float,
        on_changes: Callable[[Sequence[Change]], None] = lambda changes: None,
    ) -> None:
        self._registry, self._catalog = registry, catalog
        self._on_changes = on_changes
        self._loop = PeriodicTask(
            "catalog-sync",
            self.refresh,
            interval_s=poll_interval_s,
            on_down=lambda error: _log.warning("registry_unavailable", reason=str(error)),
            on_up=lambda: _log.info("registry_back", position=catalog.position),
        )
        self._history = HistoryReader(registry, catalog)
        self._history_loop = PeriodicTask(
            "alias-history", self._history.read, interval_s=_HISTORY_INTERVAL_S, call_first=True
        )
        self._read_at: float | None = None
        self._rewinds = 0

    @property
    def degraded(self) -> bool:
        """Whether the registry cannot be read, or is empty and was not before."""
        return self._loop.degraded

    @property
    def lag_s(self) -> float:
        """Seconds since the last successful poll of the registry; 0 before the first."""
        return 0.0 if self._read_at is None else time.monotonic() - self._read_at

    async def start(self) -> None:
        """Read the present state once (`RegistryUnavailable` if that fails), then poll the log for new entries."""
        self._catalog.restore(await self._snapshot())
        await self._history.read_page()
        self._loop.start()
        self._history_loop.start()

    async def stop(self) -> None:
        """Stop polling."""
        await self._history_loop.stop()
        await self._loop.stop()

    async def refresh(self) -> None:
        """Apply all new entries to the catalog (`RegistryUnavailable` if the registry cannot be read)."""
        last, rewinds = self._catalog.last, self._rewinds
        changes = await self._changes(0 if last is None else last.position - 1)
        if rewinds != self._rewinds:
            await self.refresh()  # the changes are of a log that another refresh found to be gone
        elif last is None or (changes[:1] == [last] and not is_behind(last.position, changes)):
            self._catalog.apply(changes)
            self._on_changes(changes if last is None else changes[1:])
        else:
            trimmed = last.kind == "log_trimmed" or is_behind(last.position, changes)
            await self._read_again(last, trimmed=trimmed)

    def require(self) -> None:
        """Raise `RegistryUnavailable` with the last error if the registry cannot be read, before writing to it.

        A store that lost everything would accept the write, and from then on every server would know nothing else.
        """
        if self._loop.error is not None:
            raise RegistryUnavailable(self._loop.error)

    async def _read_again(self, last: Change, *, trimmed: bool) -> None:
        """Fill the catalog again from a registry whose log has lost entries, or was trimmed beyond `last`."""
        rewinds, snapshot = self._rewinds, await self._snapshot()
        if rewinds != self._rewinds:
            return  # another refresh has read it meanwhile
        if snapshot.last is None:
            # a server with known adapters is worth more than one in sync with an empty store
            raise RegistryUnavailable(f"the registry is empty, its log was at position {last.position}: restore it")
        if trimmed:
            _log.info("registry_read_again", known=last.position, now=snapshot.last.position)
        else:
            _log.warning("registry_rewound", known=last.position, now=snapshot.last.position)
        self._rewinds += 1
        self._history.begin()
        self._catalog.restore(snapshot)
        await self._history.read_page()

    async def _snapshot(self) -> Snapshot:
        asked_at = time.monotonic()
        snapshot = await asyncio.to_thread(self._registry.snapshot)
        self._read_at = asked_at
        return snapshot

    async def _changes(self, since: int) -> Sequence[Change]:
        asked_at = time.monotonic()
        changes = await asyncio.to_thread(self._registry.changes, since)
        self._read_at = asked_at
        return changes
