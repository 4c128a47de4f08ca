"""Keeps the catalog at the registry's heels: one task that asks for changes, again and again.

Each time it asks for the last entry that it knows once more. Where that is gone or another, the registry's store has
lost what it had told (restarted from an older state, a failover to a replica that lagged), and the log is replayed from
its beginning.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from adapters import Change, Registry, RegistryUnavailable
from service.catalog.catalog import Catalog

_log = structlog.get_logger("service")


class CatalogSync:
    """Polls a registry's log. `degraded` is true while the registry cannot be read, or is empty and was not before."""

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        *,
        poll_interval_s: float,
        announce: Callable[[Sequence[Change]], None] = lambda changes: None,
    ) -> None:
        self._registry, self._catalog, self._poll_interval_s = registry, catalog, poll_interval_s
        self._announce = announce
        self._task: asyncio.Task[None] | None = None
        self._read_at: float | None = None
        self._rewinds = 0
        self.degraded = False
        self._reason = ""

    @property
    def lag_s(self) -> float:
        """How long ago the registry last told what changed; 0 before the first time."""
        return 0.0 if self._read_at is None else time.monotonic() - self._read_at

    async def start(self) -> None:
        """Read the whole log once (`RegistryUnavailable` where that fails), then follow it and announce what is new."""
        self._catalog.apply(await self._changes(0))
        self._task = asyncio.create_task(self._follow(), name="registry-follower")

    async def stop(self) -> None:
        """End the polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Bring the catalog up to now (`RegistryUnavailable` where the registry cannot be read)."""
        last, rewinds = self._catalog.last, self._rewinds
        changes = await self._changes(0 if last is None else last.position - 1)
        if rewinds != self._rewinds:
            await self.refresh()  # what was read stands on a log that another refresh found to be gone
        elif last is None or changes[:1] == [last]:
            self._catalog.apply(changes)
            self._announce(changes if last is None else changes[1:])
        else:
            await self._rewind(last)

    def require(self) -> None:
        """Refuse to write into a registry that cannot be read (`RegistryUnavailable`, the words of its last refusal).

        A store that lost everything would take the write, and it would be all that every server knows from then on.
        """
        if self.degraded:
            raise RegistryUnavailable(self._reason)

    async def _rewind(self, last: Change) -> None:
        """Start again from the log as it is now."""
        log = await self._changes(0)
        if not log:
            # a server that knows adapters is worth more than one that has caught up with an empty store
            raise RegistryUnavailable(f"the registry is empty, its log was at position {last.position}: restore it")
        _log.warning("registry_rewound", known=last.position, now=log[-1].position)
        self._rewinds += 1
        self._catalog.replace(log)

    async def _changes(self, since: int) -> Sequence[Change]:
        asked_at = time.monotonic()
        changes = await asyncio.to_thread(self._registry.changes, since)
        self._read_at = asked_at
        return changes

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval_s)
            try:
                await self.refresh()
            except RegistryUnavailable as exc:
                if not self.degraded or self._reason != str(exc):
                    _log.warning("registry_unavailable", reason=str(exc))
                self.degraded, self._reason = True, str(exc)
            else:
                if self.degraded:
                    _log.info("registry_back", position=self._catalog.position)
                self.degraded = False
