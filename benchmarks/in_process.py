"""The server's parts in this process, without HTTP: the engine by itself, to compare the whole server with."""

import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, cast

from adapters import DEFAULT_TENANT, Ref
from benchmarks.server_process import Question
from service.app import create_app
from service.logs import configure_logging
from service.rows import EngineRow
from service.settings import Settings
from service.world import World

Rows = Sequence[EngineRow]


@asynccontextmanager
async def in_process(registry: Path) -> AsyncIterator[World]:
    """A running world on a registry, built as the server builds it."""
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)
    app = create_app(Settings(registry=registry, bundled=False))
    async with app.router.lifespan_context(app):
        yield cast(World, app.state.world)


async def engine_rows(world: World, question: Question) -> Rows:
    """A question as the engine takes it, tokenized beforehand."""
    resolution = world.catalog.resolve(DEFAULT_TENANT, Ref.parse(question.task))
    adapter = await world.adapters.get(resolution.digest)
    tokenized = world.backbone.tokenizer.tokenize(question.texts, max_tokens=question.max_tokens, truncation="end")
    return [EngineRow(adapter, text.token_ids, math.inf) for text in tokenized]


def engine_rate(world: World, chunks: Sequence[Rows], *, outstanding: int, seconds: float) -> float:
    """Rows/s of the engine alone at saturation: `outstanding` chunks wait in it at any time."""
    source = cycle(chunks)
    waiting: deque[Sequence[Future[Any]]] = deque()
    started, rows = time.perf_counter(), 0
    while waiting or time.perf_counter() - started < seconds:
        while len(waiting) < outstanding and time.perf_counter() - started < seconds:
            waiting.append(world.engine.submit(next(source)))
        finished = waiting.popleft()
        for future in finished:
            future.result()
        rows += len(finished)
    return rows / (time.perf_counter() - started)


def engine_seconds(world: World, rows: Rows) -> float:
    """How long the engine alone takes for these rows, with nothing else in it."""
    started = time.perf_counter()
    for future in world.engine.submit(rows):
        future.result()
    return time.perf_counter() - started
