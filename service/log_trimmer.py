"""Bounds a log that would otherwise grow for ever: the registry's change log, and the audit log of tenants and keys."""

import asyncio
from collections.abc import Callable

import structlog

from service.periodic import PeriodicTask

_INTERVAL_S = 60.0
_MIN_NEW_ENTRIES = 1_000
"""With fewer new entries the log is not read again."""
Pause = Callable[[], None]
_log = structlog.get_logger("service")


class LogTrimmer:
    """Trims a log once a minute, if it has grown. Any number of servers may do so at once.

    The thread that trims yields to the model between two pages of the log.

    Args:
        name: the log's name in the server's own log
        position: returns how far the log has grown
        trim: removes entries that need not be kept and returns their number; blocking. Its arguments are `keep` and a
            function to call between two pages
        keep: number of entries below which nothing is removed
        pause: returns that function for the calling thread
    """

    def __init__(
        self,
        name: str,
        *,
        position: Callable[[], int],
        trim: Callable[[int, Pause], int],
        keep: int,
        pause: Callable[[], Pause],
    ) -> None:
        self._name, self._position, self._trim, self._keep, self._pause = name, position, trim, keep, pause
        self._trimmed_at = 0
        self._loop = PeriodicTask(
            f"{name}-trimmer",
            self.trim,
            interval_s=_INTERVAL_S,
            on_down=lambda error: _log.warning("log_not_trimmed", log=name, reason=str(error)),
        )

    async def start(self) -> None:
        """Trim every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop trimming."""
        await self._loop.stop()

    async def trim(self) -> None:
        """Trim the log if it has grown since the last time (`RegistryUnavailable`)."""
        position = self._position()
        if 0 <= position - self._trimmed_at < min(_MIN_NEW_ENTRIES, self._keep):
            return
        removed = await asyncio.to_thread(lambda: self._trim(self._keep, self._pause()))
        if removed:
            _log.info("log_trimmed", log=self._name, entries=removed)
        if removed < _MIN_NEW_ENTRIES:  # otherwise there may be more to remove, in a log that was never trimmed
            self._trimmed_at = position
