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
        self._num_bugs = 0
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
            self._num_bugs = 0
            self._note(exc)
        except Exception as exc:  # noqa: BLE001 - a bug in one call must not end all later ones
            self._num_bugs += 1
            if self._num_bugs == 1:
                _log.exception("periodic_task_failed", task=self._name)
            self._note(exc)
        else:
            self._num_bugs = 0
            if self.error is not None:
                self.error = None
                self._on_up()

    def _note(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text != self.error:
            self._on_down(error)
        self.error = text

    async def _run(self) -> None:
        if not self._call_first:
            await asyncio.sleep(self._interval_s)
        while True:
            await self.run_once()
            back_off_s = min(MAX_BACK_OFF_S, self._interval_s * 2**self._num_bugs)
            await asyncio.sleep(max(self._interval_s, back_off_s))
