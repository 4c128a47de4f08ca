"""The watchdog: notices a model thread that is dead or stuck, and gives it up.

A task of the event loop, because the thread that it watches can do nothing for itself any more.
"""

import asyncio
from collections.abc import Callable

import structlog

from service.engine.engine import Engine
from service.engine.types import EngineStats

_log = structlog.get_logger("service")
_INTERVAL_S = 0.25


def failure_of(stats: EngineStats, *, stuck_after_s: float) -> str | None:
    """What is wrong with the model thread, in words; None while it works."""
    if stats.failure is not None:
        return stats.failure
    if stats.busy_s > stuck_after_s:
        return f"the model thread is stuck: one forward runs for more than {stuck_after_s:g} s"
    return None


class Watchdog:
    """Looks at an engine again and again until it fails; nobody waits for a failed one.

    Args:
        on_failure: told why, once: the model thread cannot be started again in this process
    """

    def __init__(self, engine: Engine, *, stuck_after_s: float, on_failure: Callable[[str], None]) -> None:
        self._engine, self._stuck_after_s, self._on_failure = engine, stuck_after_s, on_failure
        self._interval_s = min(_INTERVAL_S, stuck_after_s / 4)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch(), name="watchdog")

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            failure = failure_of(self._engine.stats(), stuck_after_s=self._stuck_after_s)
            if failure is not None:
                break
            await asyncio.sleep(self._interval_s)
        _log.critical("model_thread_failed", reason=failure)
        self._engine.abandon(failure)
        self._on_failure(failure)
