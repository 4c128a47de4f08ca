"""Pending futures, failable from any thread.

Several parties may end a future: its batch, its caller by cancelling it, the watchdog that finds the model thread dead
or stuck. The first one wins and the others have no effect, which is why a future is never marked as running.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
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
        the error of a future that failed, at once. The remaining futures are cancelled then, and also if the caller is
        cancelled.
    """
    await all_ended([futures])
    return results(futures)


def results(futures: Sequence[Future[T]]) -> list[T]:
    """Return the results of futures that have ended, in order, or raise the first error among them."""
    for future in futures:
        if not future.cancelled():
            future.result(0)
    return [future.result(0) for future in futures]


async def all_ended(groups: Sequence[Sequence[Future[T]]]) -> None:
    """Wait until every future of every group has ended.

    A future that fails cancels the rest of its group. If the caller is cancelled, all futures are.
    """
    total = sum(map(len, groups))
    if not total:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    done: list[Future[T]] = []  # appended by the model thread: an append is atomic, a counter would not be

    def note(group: Sequence[Future[T]], future: Future[T]) -> None:
        done.append(future)
        if not future.cancelled() and future.exception() is not None:
            for other in group:
                other.cancel()
        if len(done) == total and not loop.is_closed():
            loop.call_soon_threadsafe(_end, ended)

    try:
        for group in groups:
            for future in group:
                future.add_done_callback(partial(note, group))
        await ended
    finally:
        for group in groups:
            for future in group:
                future.cancel()


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
