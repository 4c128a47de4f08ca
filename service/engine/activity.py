"""The model thread's activity, by which the event loop and other threads know when to yield to it."""

import threading
import time
from collections.abc import Callable

_SLICE_S = 0.001
"""Processor time of a thread after which it yields."""
_SHARE = 2.0
"""Longest sleep, as a multiple of the processor time that was used."""
_MAX_SLEEP_S = 0.02
"""Longest sleep; of the event loop, connections and timers wait for it."""


class ModelActivity:
    """Whether a batch runs, and how many rows it has answered."""

    def __init__(self) -> None:
        self.idle = threading.Event()
        """Set while no batch runs."""
        self.idle.set()
        self.num_answers = 0
        """Rows whose scores were computed, cancelled ones left out."""

    def yield_after(self, used_s: float) -> None:
        """Sleep in proportion to the processor time used, until the batch that runs has ended at the latest."""
        self.idle.wait(min(_SHARE * used_s, _MAX_SLEEP_S))

    def pause(self) -> Callable[[], None]:
        """Return a function for this thread to call between two pieces of its work, which yields to a batch."""
        counted_from_s = time.thread_time()

        def yield_now() -> None:
            nonlocal counted_from_s
            used_s = time.thread_time() - counted_from_s
            if used_s >= _SLICE_S:
                self.yield_after(used_s)
                counted_from_s = time.thread_time()

        return yield_now
