"""How training is ended wherever it is: a signal whose handler raises in the main thread."""

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNAL = signal.SIGUSR1


class Interrupted(BaseException):
    """The job is to be left where it is; raised by signal handlers in the main thread."""


class Interruption:
    """Ends a block of the main thread; made in that thread, since it sets the handler of a signal.

    The exception may be raised in any line of the block, libraries included. Some of them make another error of it
    (an import that fails, a class that is not made), and Python itself drops it in a finalizer. So each error that
    follows an interruption counts as one, and `request` may be called until the block has ended.

    Args:
        again_s: seconds after which a further request interrupts again, so that it does not cut the clean-up short
    """

    def __init__(self, *, again_s: float = 5.0) -> None:
        self._again_s = again_s
        self._is_possible = False
        self._last_s = -math.inf
        signal.signal(_SIGNAL, self._on_signal)

    def request(self) -> None:
        """Interrupt the block, if one runs. May be called from any thread."""
        os.kill(os.getpid(), _SIGNAL)

    def raise_if_possible(self) -> None:
        """Interrupt the block, from the handler of a signal or in the block itself (`Interrupted`)."""
        now_s = time.monotonic()
        if self._is_possible and now_s - self._last_s >= self._again_s:
            self._last_s = now_s
            raise Interrupted

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Let a block be interrupted; it then ends with `Interrupted`."""
        self._last_s = -math.inf
        self._is_possible = True
        try:
            yield
        except Exception as exc:
            if self._last_s > -math.inf:
                raise Interrupted from exc
            raise
        finally:
            self._is_possible = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.raise_if_possible()
