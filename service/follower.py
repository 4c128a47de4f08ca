"""Keeps the catalog at the registry's heels: one task that asks for changes, again and again."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from adapters import Change, Registry, RegistryUnavailable
from service.catalog import Catalog

_log = structlog.get_logger("service")


class Follower:
    """Polls a registry's log. `degraded` is true while the registry cannot be read."""

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
        self.degraded = False

    @property
    def lag_s(self) -> float:
        """How long ago the registry last told what changed; 0 before the first time."""
        return 0.0 if self._read_at is None else time.monotonic() - self._read_at

    async def start(self) -> None:
        """Read the whole log once (`RegistryUnavailable` where that fails), then follow it and announce what is new."""
        self._catalog.apply(await self._changes())
        self._task = asyncio.create_task(self._follow(), name="registry-follower")

    async def stop(self) -> None:
        """End the polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Bring the catalog up to now (`RegistryUnavailable` where the registry cannot be read)."""
        changes = await self._changes()
        self._catalog.apply(changes)
        self._announce(changes)

    async def _changes(self) -> Sequence[Change]:
        asked_at = time.monotonic()
        changes = await asyncio.to_thread(self._registry.changes, self._catalog.position)
        self._read_at = asked_at
        return changes

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval_s)
            try:
                await self.refresh()
            except RegistryUnavailable as exc:
                if not self.degraded:
                    _log.warning("registry_unavailable", reason=str(exc))
                self.degraded = True
            else:
                if self.degraded:
                    _log.info("registry_back", position=self._catalog.position)
                self.degraded = False
