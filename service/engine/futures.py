"""Pending futures, failable from any thread.

Several parties may end a future: its batch, its caller by cancelling it, the watchdog that finds the model thread dead
or stuck. The first one wins and the others have no effect, which is why a future is never marked as running.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


def settle(future: Future[T], outcome: T | Exception) -> None:
    """Resolve a future with its result or its error, unless it has ended already."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class PendingFutures(Generic[T]):
    """The futures that have not ended yet."""

    def __init__(self) -> None:
        self._futures: set[Future[T]] = set()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, futures: Sequence[Future[T]]) -> None:
        """Track futures until they end."""
        for future in futures:
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)

    def fail(self, error: Exception) -> None:
        """Fail all pending futures."""
        for future in self._futures.copy():  # copied in one step: other threads add and discard meanwhile
            settle(future, error)


async def gather(futures: Sequence[Future[T]]) -> list[T]:
    """Return every future's result, in order.

    Raises:
        the error of the first future to fail, at once. The remaining futures are cancelled then, and also if the caller
        is cancelled.
    """
    if not futures:
        return []
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    done: list[Future[T]] = []  # appended by the model thread: an append is atomic, a counter would not be

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
