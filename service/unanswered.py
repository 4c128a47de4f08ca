"""The futures that somebody still waits for, so that all of them can be ended from any thread.

A future has several that may end it: its batch, its caller by cancelling, whoever finds the model thread dead or
stuck. The first wins, and the others are no error; that is why a future is never marked as running.
"""

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


def settle(future: Future[T], outcome: T | Exception) -> None:
    """End a future with its result or its error, unless it has ended already."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Unanswered(Generic[T]):
    """Futures from their start to their end, whoever ends them."""

    def __init__(self) -> None:
        self._futures: set[Future[T]] = set()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, futures: Sequence[Future[T]]) -> None:
        """Hold futures until they end."""
        for future in futures:
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)

    def fail(self, error: Exception) -> None:
        """End all that are held now with an error."""
        for future in self._futures.copy():  # in one step: other threads add and discard meanwhile
            settle(future, error)
