"""Servers under load: callers that never stop asking and what they were answered, and a model that stands still."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from backbone import Backbone
from service.catalog.adapter_cache import load_adapter
from service.engine.types import Row, RowScores
from support.adapters import make_adapter
from support.server import RunningServer
from support.waiting import eventually


@dataclass(frozen=True)
class Answer:
    """One request's, with its begin and end on `time.monotonic`'s clock."""

    server: RunningServer
    text: str
    began: float
    ended: float
    status: int
    body: dict[str, Any]


@dataclass
class Load:
    """What the callers were answered, in the order of the ends."""

    answers: list[Answer] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def go_on(self, count: int, *, until: Callable[[], bool] = lambda: True) -> None:
        """Wait for so many more answers, and for something to be true."""
        so_far = len(self.answers)
        eventually(lambda: len(self.answers) >= so_far + count and until())


@contextmanager
def load(servers: Sequence[RunningServer], ref: str, texts: Sequence[str], *, callers: int = 3) -> Iterator[Load]:
    """So many callers at each server; they end with the block, and whatever they raised is raised here."""
    asked = Load()

    def call(server: RunningServer, number: int) -> None:
        with httpx2.Client(base_url=server.url, timeout=30) as http:
            while not asked.stop.is_set():
                number += 1
                text, began = texts[number % len(texts)], time.monotonic()
                response = http.post(f"/classify/{ref}", json={"inputs": text})
                answer = Answer(server, text, began, time.monotonic(), response.status_code, response.json())
                asked.answers.append(answer)

    with ThreadPoolExecutor(callers * len(servers)) as pool:
        running: list[Future[None]] = [pool.submit(call, server, n) for server in servers for n in range(callers)]
        try:
            yield asked
        finally:
            asked.stop.set()
        for future in running:
            future.result(30)


@contextmanager
def held_model_thread(server: RunningServer, backbone: Backbone) -> Iterator[None]:
    """Make the server's model thread stand still, as behind a long batch."""
    runtime = server.app.state.runtime
    held, go_on = threading.Event(), threading.Event()

    def wait(_: Future[RowScores]) -> None:
        held.set()
        assert go_on.wait(30)

    row = Row(load_adapter(make_adapter(backbone, seed=99), backbone), (1,), time.monotonic() + 60)
    runtime.inference.engine.submit([row])[0].add_done_callback(wait)
    assert held.wait(30)
    try:
        yield
    finally:
        go_on.set()
