"""The common part of every route that classifies: limits, disconnects, `Server-Timing`."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request

from adapters import Ref
from adapters.task import MAX_LABELS
from backbone import Truncation
from service.errors import ClientDisconnected, InvalidRequest
from service.inference.predictions import Classification, Item, Stages
from service.runtime import Runtime
from service.settings import Settings

ALL_LABELS = MAX_LABELS
"""`top_k` of the protocols that always return every label."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What is asked, whichever protocol it came by."""

    items: Sequence[Item]
    truncation: Truncation = "error"
    top_k: int | None = ALL_LABELS
    timeout_ms: int | None = None
    """None for the server's own."""
    sticky_key: str | None = None

    def timeout_s(self, settings: Settings) -> float:
        """How long the caller waits."""
        return (self.timeout_ms or settings.default_timeout_ms) / 1_000

    def check(self, settings: Settings, *, num_tasks: int = 1) -> None:
        """Hold it against the server's limits (`InvalidRequest`)."""
        rows, most = len(self.items) * num_tasks, settings.max_rows_per_request
        if rows > most:
            times = f" for {num_tasks} tasks, {rows} rows" if num_tasks > 1 else ""
            raise InvalidRequest(f"inputs has {len(self.items)} items{times}, expected at most {most}")
        if (self.timeout_ms or 0) > settings.max_timeout_ms:
            raise InvalidRequest(f"timeout_ms is {self.timeout_ms}, expected at most {settings.max_timeout_ms}")


async def run_inference(
    request: Request, runtime: Runtime, tenant: str, ref: Ref, question: InferenceRequest
) -> Classification:
    """The answer to one task's question; the work ends where the caller hangs up."""
    question.check(runtime.settings)
    return await while_connected(request, run_while_connected(runtime, tenant, ref, question))


async def run_while_connected(runtime: Runtime, tenant: str, ref: Ref, question: InferenceRequest) -> Classification:
    """The same, whoever waits for it."""
    return await runtime.classifier.classify(
        tenant,
        ref,
        question.items,
        truncation=question.truncation,
        top_k=question.top_k,
        timeout_s=question.timeout_s(runtime.settings),
        sticky_key=question.sticky_key,
    )


def server_timing(stages: Sequence[Stages], *, since: float) -> str:
    """Format W3C Server-Timing in ms: the longest of each stage, and `total` since the request arrived."""
    durations_s = {
        "queue": max(stage.queue_s for stage in stages),
        "tokenize": max(stage.tokenize_s for stage in stages),
        "infer": max(stage.infer_s for stage in stages),
        "total": time.monotonic() - since,
    }
    return ", ".join(f"{stage};dur={1_000 * seconds:.2f}" for stage, seconds in durations_s.items())


T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[object, object, T]) -> T:
    """Await `work`; cancel it and raise `ClientDisconnected` if the client disconnects first.

    Call this only after the body has been read.
    """
    task = asyncio.current_task()
    assert task is not None
    is_waiting, has_cancelled = True, False

    def cancel(_: asyncio.Task[None]) -> None:
        nonlocal has_cancelled
        if is_waiting:
            has_cancelled = task.cancel()

    watcher = asyncio.create_task(_disconnected(request))
    watcher.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not has_cancelled or task.uncancel():
            raise  # cancelled for another reason
        raise ClientDisconnected("the client disconnected") from None
    finally:
        is_waiting = False
        watcher.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
