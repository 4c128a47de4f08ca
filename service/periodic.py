"""A function of the event loop that is called at an interval, and whether it fails at present."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

import structlog

from adapters import RegistryUnavailable

MAX_BACK_OFF_S = 5.0
"""Longest pause after unexpected errors, unless the interval itself is longer."""
_log = structlog.get_logger("service")


class PeriodicTask:
    """Calls `call` at an interval from `start` to `stop`. Belongs to the event loop.

    `RegistryUnavailable` is an outage: the store is tried again at the same interval. Any other exception is a bug: it
    is logged with its traceback, and the pause doubles up to `MAX_BACK_OFF_S`. Neither ends the loop.

    Args:
        name: the task's name, for debuggers
        call: the function
        interval_s: pause between two calls
        call_first: call at once, and not only after the first pause
        on_down: receives the first error of an outage, and each one that reads differently
        on_up: called after the first success that follows an error
    """

    def __init__(
        self,
        name: str,
        call: Callable[[], Awaitable[None]],
        *,
        interval_s: float,
        call_first: bool = False,
        on_down: Callable[[Exception], None] = lambda error: None,
        on_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._call, self._call_first = name, call, call_first
        self._interval_s = interval_s
        self._on_down, self._on_up = on_down, on_up
        self._task: asyncio.Task[None] | None = None
        self._pause_s = interval_s
        self.error: str | None = None
        """The error of the last call; None if it succeeded."""

    @property
    def degraded(self) -> bool:
        """Whether the last call failed."""
        return self.error is not None

    def start(self) -> None:
        """Start the loop, outside of the context of any request."""
        self._task = asyncio.create_task(self._run(), name=self._name, context=Context())

    async def stop(self) -> None:
        """End the loop; a call that is under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_once(self) -> None:
        """Call once, and note how it went; only cancellation is raised."""
        try:
            await self._call()
        except RegistryUnavailable as exc:
            self._pause_s = self._interval_s
            self._note(exc)
        except Exception as exc:  # noqa: BLE001 - a bug in one call must not end all later ones
            self._pause_s = max(self._interval_s, min(MAX_BACK_OFF_S, 2 * self._pause_s))
            if self._note(exc):
                _log.exception("periodic_task_failed", task=self._name)
        else:
            self._pause_s = self._interval_s
            if self.error is not None:
                self.error = None
                self._on_up()

    def _note(self, error: Exception) -> bool:
        """Keep an error, and return whether it reads differently from the one before."""
        before, self.error = self.error, str(error) or type(error).__name__
        if self.error == before:
            return False
        self._on_down(error)
        return True

    async def _run(self) -> None:
        if not self._call_first:
            await asyncio.sleep(self._interval_s)
        while True:
            await self.run_once()
            await asyncio.sleep(self._pause_s)
