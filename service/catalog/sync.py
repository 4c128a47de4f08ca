"""Polls the registry's change log and applies it to the catalog.

Each poll reads the last known entry again. If that entry is missing or different, the registry has lost entries
(restarted from an older state, or failed over to a replica that lagged), and the log is replayed from its beginning.
The log is also replayed if it was trimmed beyond the point that this server had read.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from adapters import Change, Registry, RegistryUnavailable
from adapters.registry.trimming import is_behind
from service.catalog.catalog import Catalog
from service.periodic import PeriodicTask

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
        """Read the whole log once (`RegistryUnavailable` if that fails), then poll it for new entries."""
        self._catalog.apply(await self._changes(0))
        self._loop.start()

    async def stop(self) -> None:
        """Stop polling."""
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
            await self._read_again(last)

    def require(self) -> None:
        """Raise `RegistryUnavailable` with the last error if the registry cannot be read, before writing to it.

        A store that lost everything would accept the write, and from then on every server would know nothing else.
        """
        if self._loop.error is not None:
            raise RegistryUnavailable(self._loop.error)

    async def _read_again(self, last: Change) -> None:
        """Rebuild the catalog from the current log, which has lost entries or was trimmed beyond `last`."""
        log = await self._changes(0)
        if not log:
            # a server with known adapters is worth more than one in sync with an empty store
            raise RegistryUnavailable(f"the registry is empty, its log was at position {last.position}: restore it")
        if is_behind(last.position, log) or last.kind == "log_trimmed":
            _log.info("registry_read_again", known=last.position, now=log[-1].position)
        else:
            _log.warning("registry_rewound", known=last.position, now=log[-1].position)
        self._rewinds += 1
        self._catalog.replace(log)

    async def _changes(self, since: int) -> Sequence[Change]:
        asked_at = time.monotonic()
        changes = await asyncio.to_thread(self._registry.changes, since)
        self._read_at = asked_at
        return changes
