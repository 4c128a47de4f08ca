"""Bounds the registry's change log: removes entries that neither the present state nor the recent history needs."""

import asyncio

import structlog

from adapters import Registry
from service.catalog.catalog import Catalog
from service.periodic import PeriodicTask

_INTERVAL_S = 60.0
_MIN_NEW_ENTRIES = 1_000
"""With fewer new entries the log is not read again."""
_log = structlog.get_logger("service")


class LogTrimmer:
    """Trims the log of a registry once a minute, if it has grown. Any number of servers may do so at once.

    Args:
        registry: the store
        catalog: knows how far the log has grown
        keep: number of each tenant's latest entries that are never removed
    """

    def __init__(self, registry: Registry, catalog: Catalog, *, keep: int) -> None:
        self._registry, self._catalog, self._keep = registry, catalog, keep
        self._trimmed_at = 0
        self._loop = PeriodicTask(
            "log-trimmer",
            self.trim,
            interval_s=_INTERVAL_S,
            on_down=lambda error: _log.warning("log_not_trimmed", reason=str(error)),
        )

    async def start(self) -> None:
        """Trim every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop trimming."""
        await self._loop.stop()

    async def trim(self) -> None:
        """Trim the log if it has grown since the last time (`RegistryUnavailable`)."""
        position = self._catalog.position
        if 0 <= position - self._trimmed_at < min(_MIN_NEW_ENTRIES, self._keep):
            return
        removed = await asyncio.to_thread(self._registry.trim_log, keep=self._keep)
        if removed:
            _log.info("log_trimmed", entries=removed)
        if removed < _MIN_NEW_ENTRIES:  # otherwise there may be more to remove, in a log that was never trimmed
            self._trimmed_at = position
