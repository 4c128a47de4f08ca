"""Waiting for another thread or process."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait for something that another thread or process is about to do."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
