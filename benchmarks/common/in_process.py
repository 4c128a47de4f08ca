"""The server's parts in this process, without HTTP, to compare the engine alone with the whole server."""

import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, cast

from adapters import DEFAULT_TENANT, Ref
from benchmarks.common.server_process import PRECISION, Question
from service.app import create_app
from service.engine.types import Row
from service.memory import bound_kernel_caches
from service.runtime import Runtime
from service.settings import Settings
from service.telemetry.logging import configure_logging

Rows = Sequence[Row]


@asynccontextmanager
async def in_process(registry: Path) -> AsyncIterator[Runtime]:
    """A running world on a registry, built as the server builds it."""
    bound_kernel_caches()  # as `superpos serve` does
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)
    app = create_app(Settings(registry=registry, bundled=False, precision=PRECISION))
    async with app.router.lifespan_context(app):
        yield cast(Runtime, app.state.runtime)


async def engine_rows(runtime: Runtime, question: Question) -> Rows:
    """A tokenized question, as the engine takes it."""
    resolution = runtime.registry.catalog.resolve(DEFAULT_TENANT, Ref.parse(question.task))
    adapter = await runtime.registry.adapters.get(resolution.digest)
    texts = [adapter.frame.fill(adapter.template.values(item)) for item in question.items]
    tokenized = runtime.backbone.tokenizer.tokenize(texts, max_tokens=question.max_tokens, truncation="end")
    return [Row(adapter, text.token_ids, math.inf) for text in tokenized]


def engine_rate(runtime: Runtime, chunks: Sequence[Rows], *, outstanding: int, seconds: float) -> float:
    """Measure rows/s of the engine alone at saturation, with `outstanding` chunks queued at any time."""
    source = cycle(chunks)
    waiting: deque[Sequence[Future[Any]]] = deque()
    started, rows = time.perf_counter(), 0
    while waiting or time.perf_counter() - started < seconds:
        while len(waiting) < outstanding and time.perf_counter() - started < seconds:
            waiting.append(runtime.inference.engine.submit([replace(row) for row in next(source)]))
        finished = waiting.popleft()
        for future in finished:
            future.result()
        rows += len(finished)
    return rows / (time.perf_counter() - started)


def engine_seconds(runtime: Runtime, rows: Rows) -> float:
    """Measure the time of the idle engine for these rows."""
    started = time.perf_counter()
    for future in runtime.inference.engine.submit([replace(row) for row in rows]):
        future.result()
    return time.perf_counter() - started
