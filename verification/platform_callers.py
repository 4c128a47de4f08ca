"""Constant load on a platform: callers, and the outcomes of their requests."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from deploy.stack import Stack

TEXT = "a gripping film that is positive and never negative"
_WITHIN_S = 60.0


@dataclass(slots=True)
class Asking:
    """Outcomes of the requests so far; callers append from their threads."""

    answered: list[float] = field(default_factory=list)
    """Times of responses with status 200."""
    refusals: list[str] = field(default_factory=list)
    """All other responses, and broken connections."""

    def wait_for(self, number: int) -> None:
        """Wait until `number` more requests were answered."""
        until = len(self.answered) + number
        wait_until(lambda: len(self.answered) >= until)


@contextmanager
def callers(stack: Stack, task: str, *, count: int = 4) -> Iterator[Asking]:
    """Run callers of the gateway during the block; at its end all requests have finished."""
    asking, stop = Asking(), threading.Event()

    def ask() -> None:
        with client_of(stack.url, stack.admin_key) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"/classify/{task}", json={"inputs": [TEXT] * 4})
                except httpx2.TransportError as exc:
                    asking.refusals.append(repr(exc))
                    continue
                if answer.status_code == 200:
                    asking.answered.append(time.monotonic())
                else:
                    asking.refusals.append(answer.text)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask) for _ in range(count)]
        try:
            yield asking
        finally:
            stop.set()
        for future in futures:
            future.result(60)


def client_of(url: str, key: str) -> httpx2.Client:
    """Make a client with a key."""
    return httpx2.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"})


def digest_at(stack: Stack, server: int, task: str) -> str | None:
    """Return the digest with which one server answers for a task, bypassing the gateway."""
    with client_of(stack.server_urls[server], stack.admin_key) as client:
        answer = client.post(f"/classify/{task}", json={"inputs": TEXT})
    return str(answer.json()["adapter"]) if answer.status_code == 200 else None


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition in other processes holds; raise `TimeoutError` after a minute."""
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen within a minute")
        time.sleep(0.005)
