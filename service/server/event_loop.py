"""The server's event loop, which yields to the model thread.

The model thread takes the interpreter lock (GIL) at each of its several hundred tensor operations. While the event loop
computes, it gets the lock only once per switch interval, and on virtual machines each hand-over to another core is
dear: next to a client that sent nothing but refused requests, a forward of 45 ms took 460 ms. So between two rounds of
callbacks the loop sleeps in proportion to the time that it has computed while a batch runs. With that the forward takes
about 85 ms.

What the loop computes for rows that it submits to the model is not counted: they would only reach it later.
"""

import asyncio
import time
from selectors import DefaultSelector, SelectorKey

from service.engine.activity import ModelActivity

_SLICE_S = 0.001
"""Processor time of the loop after which it yields."""
_SHARE = 2.0
"""Longest sleep, as a multiple of the loop's processor time."""
_MAX_SLEEP_S = 0.01
"""Longest sleep; connections and timers wait for it."""


class YieldingSelector(DefaultSelector):
    """Waits for events as asyncio's default does, and first yields to a running batch."""

    def __init__(self) -> None:
        super().__init__()
        self._activity: ModelActivity | None = None
        self._num_submissions = 0
        self._counted_from_s = 0.0

    def yield_to(self, activity: ModelActivity) -> None:
        """From now on yield to a model thread."""
        self._activity = activity
        self._counted_from_s = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return the ready events; asyncio calls this between two rounds of callbacks."""
        if self._activity is not None:
            self._sleep(self._activity)
        return super().select(timeout)

    def _sleep(self, activity: ModelActivity) -> None:
        now_s = time.thread_time()
        used_s = now_s - self._counted_from_s
        if self._num_submissions != activity.num_submissions:
            self._num_submissions, self._counted_from_s = activity.num_submissions, now_s
        elif used_s >= _SLICE_S:
            # ends with the batch, whose answers are then sent at once
            activity.idle.wait(min(_SHARE * used_s, _MAX_SLEEP_S))
            self._counted_from_s = time.thread_time()


class ServerLoop(asyncio.SelectorEventLoop):
    """asyncio's default loop with a `YieldingSelector`."""

    def __init__(self) -> None:
        self._yielding_selector = YieldingSelector()
        super().__init__(self._yielding_selector)

    def yield_to(self, activity: ModelActivity) -> None:
        """From now on yield to a model thread."""
        self._yielding_selector.yield_to(activity)
