"""Awaiting what another thread answers, with one wake-up of the event loop however many futures there are."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def gather_answers(futures: Sequence[Future[T]]) -> list[T]:
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
