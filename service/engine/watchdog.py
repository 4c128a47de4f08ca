"""The watchdog: detects a model thread that has died or is stuck.

It runs on the event loop, because a stuck thread cannot report itself.
"""

from collections.abc import Callable

import structlog

from service.engine.engine import Engine
from service.engine.types import EngineStats
from service.periodic import PeriodicTask

_log = structlog.get_logger("service")
_INTERVAL_S = 0.25


def failure_of(stats: EngineStats, *, forward_timeout_s: float) -> str | None:
    """Return why the model thread has failed, None while it works."""
    if stats.failure is not None:
        return stats.failure
    if stats.busy_s > forward_timeout_s:
        return f"the model thread is stuck: one forward has run for more than {forward_timeout_s:g} s"
    return None


class Watchdog:
    """Checks an engine at an interval, and gives up a model thread that has died or is stuck.

    Args:
        forward_timeout_s: a model thread whose forward runs longer than this is stuck
        on_failure: receives the reason, once: the model thread cannot be restarted in this process
    """

    def __init__(self, engine: Engine, *, forward_timeout_s: float, on_failure: Callable[[str], None]) -> None:
        self._engine, self._stuck_after_s, self._on_failure = engine, forward_timeout_s, on_failure
        self._has_failed = False
        self._loop = PeriodicTask("watchdog", self._check, interval_s=min(_INTERVAL_S, forward_timeout_s / 4))

    async def start(self) -> None:
        """Start checking."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop checking."""
        await self._loop.stop()

    async def _check(self) -> None:
        failure = failure_of(self._engine.stats(), forward_timeout_s=self._stuck_after_s)
        if failure is None or self._has_failed:
            return
        self._has_failed = True
        _log.critical("model_thread_failed", reason=failure)
        self._engine.abandon(failure)
        self._on_failure(failure)
