"""The futures that somebody still waits for, so that all of them can be ended from any thread.

A future has several that may end it: its batch, its caller by cancelling, whoever finds the model thread dead or
stuck. The first wins, and the others are no error; that is why a future is never marked as running.
"""

import asyncio
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


class PendingFutures(Generic[T]):
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


async def gather(futures: Sequence[Future[T]]) -> list[T]:
    """Every future's result, in order.

    Raises:
        whatever the first future to fail raised, at once; those that have not begun are cancelled then, and also
        when the caller is cancelled
    """
    if not futures:
        return []
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    done: list[Future[T]] = []  # appended by the answering thread: an append is atomic, a counter would not be

    def note(future: Future[T]) -> None:
        done.append(future)
        if (len(done) == len(futures) or _failed(future)) and not loop.is_closed():
            loop.call_soon_threadsafe(_end, ended)

    for future in futures:
        future.add_done_callback(note)
    try:
        await ended
        for future in done:
            if _failed(future):
                future.result(0)
        return [future.result(0) for future in futures]
    finally:
        for future in futures:
            future.cancel()


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _failed(future: Future[T]) -> bool:
    return future.cancelled() or future.exception() is not None
