"""Waiting, sending and concurrency with `async`. `_sync/io.py` has the same names with threads; both by hand."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import httpx2

from superpos_client.calls import Answer
from superpos_client.retries import Deadline

K = TypeVar("K")
T = TypeVar("T")

sleep = asyncio.sleep


class Pool:
    """The connections of a client: those of each event loop apart, since a connection belongs to its loop."""

    def __init__(self, make: Callable[[], httpx2.AsyncClient], given: httpx2.AsyncClient | None) -> None:
        self._make, self._given = make, given
        self._clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}
        self._loop_of_given: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @contextmanager
    def lease(self) -> Iterator[httpx2.AsyncClient]:
        """Lend the HTTP client of the running loop for one exchange.

        Raises:
            RuntimeError: the pool is closed, or a given HTTP client belongs to another loop
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._given is not None:
            self._loop_of_given = self._loop_of_given or loop
            if self._loop_of_given is not loop:
                raise RuntimeError(
                    "this AsyncClient was made with an http_client that another event loop has used; make one per "
                    "loop, or leave http_client out"
                )
            yield self._given
            return
        if loop not in self._clients:
            # connections of a closed loop cannot be closed any more
            self._clients = {each: client for each, client in self._clients.items() if not each.is_closed()}
            self._clients[loop] = self._make()
        yield self._clients[loop]

    async def close(self) -> None:
        """Close the connections of the running loop, and forget the others. A given HTTP client stays open."""
        self._is_closed = True
        mine = self._clients.pop(asyncio.get_running_loop(), None)
        self._clients.clear()
        if mine is not None:
            await mine.aclose()


async def exchange(client: httpx2.AsyncClient, request: httpx2.Request, deadline: Deadline) -> Answer:
    """Send a request and return its complete answer (`TimeoutError`, `httpx2.TransportError`)."""
    async with asyncio.timeout(deadline.remaining_s):
        response = await client.send(request)
    return Answer(response.status_code, response.headers, response.content)


async def each(rows: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the rows of either kind of iterable."""
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row


class Jobs(Generic[K, T]):
    """Functions that run at the same time, and their results as they end."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[T], K] = {}

    def start(self, key: K, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> None:
        """Run a function."""
        self._running[asyncio.create_task(function(*arguments))] = key

    async def ended(self, timeout_s: float | None) -> list[tuple[K, T | Exception]]:
        """Return what has ended, after at least one has, or after the timeout."""
        if not self._running:
            await sleep(timeout_s or 0.0)
            return []
        done, _ = await asyncio.wait(self._running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return [(self._running.pop(task), _outcome(task)) for task in done]

    async def stop(self) -> None:
        """Cancel what still runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()


def _outcome(task: asyncio.Task[T]) -> T | Exception:
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, Exception):
        raise error
    return error
