"""Waiting, sending and concurrency with threads. `_async/io.py` has the same names with `async`; both by hand."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import httpx2

from superpos_client.calls import Answer
from superpos_client.retries import Deadline

K = TypeVar("K")
T = TypeVar("T")

sleep = time.sleep


class Pool:
    """The connections of a client, which threads may share and a forked process must not."""

    def __init__(self, make: Callable[[], httpx2.Client], given: httpx2.Client | None) -> None:
        self._make, self._given = make, given
        self._client: httpx2.Client | None = None
        self._process = os.getpid()
        self._num_leases = 0
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[httpx2.Client]:
        """Lend the HTTP client of this process for one exchange (`RuntimeError` if the pool is closed)."""
        with self._lock:
            client = self._of_this_process()
            self._num_leases += 1
        try:
            yield client
        finally:
            with self._lock:
                self._num_leases -= 1
            self._close_unused()

    def close(self) -> None:
        """Close the connections, those with a request on its way when it ends. A given HTTP client stays open.

        A connection that is being opened by another thread cannot be closed before.
        """
        self._is_closed = True
        self._close_unused()

    def _of_this_process(self) -> httpx2.Client:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        if self._given is not None:
            return self._given
        if self._client is None or self._process != os.getpid():
            self._client, self._process, self._num_leases = self._make(), os.getpid(), 0
        return self._client

    def _close_unused(self) -> None:
        with self._lock:
            unused = self._client if self._is_closed and not self._num_leases else None
        if unused is not None:
            unused.close()


def exchange(client: httpx2.Client, request: httpx2.Request, deadline: Deadline) -> Answer:
    """Send a request and return its complete answer (`TimeoutError`, `httpx2.TransportError`).

    The deadline is checked at each part of the body.
    """
    response = client.send(request, stream=True)
    try:
        # read by the transport when the body begins: what is left then
        request.extensions["timeout"]["read"] = max(0.001, deadline.remaining_s)
        parts = []
        for part in response.iter_bytes():
            parts.append(part)
            if deadline.remaining_s <= 0:
                raise TimeoutError
    finally:
        response.close()
    return Answer(response.status_code, response.headers, b"".join(parts))


def each(rows: Iterable[T]) -> Iterator[T]:
    """Yield the rows."""
    yield from rows


class Jobs(Generic[K, T]):
    """Functions that run at the same time, and their results as they end.

    The threads are daemons: an interrupted program does not wait for answers that it does not need.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[K, Callable[..., T], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[K, T | Exception]] = queue.SimpleQueue()
        self._num_running = self._num_threads = 0

    def start(self, key: K, function: Callable[..., T], *arguments: Any) -> None:
        """Run a function."""
        self._num_running += 1
        if self._num_running > self._num_threads:
            threading.Thread(target=self._work, name="superpos-client", daemon=True).start()
            self._num_threads += 1
        self._waiting.put((key, function, arguments))

    def ended(self, timeout_s: float | None) -> list[tuple[K, T | Exception]]:
        """Return what has ended, after at least one has, or after the timeout."""
        if not self._num_running:
            sleep(timeout_s or 0.0)
            return []
        found = []
        try:
            found.append(self._ended.get(timeout=timeout_s))
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            self._num_running -= len(found)
            return found

    def stop(self) -> None:
        """Let the threads end, those that wait for an answer after it."""
        for _ in range(self._num_threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            key, function, arguments = job
            try:
                self._ended.put((key, function(*arguments)))
            except Exception as exc:  # noqa: BLE001 - raised where the outcome is read
                self._ended.put((key, exc))
