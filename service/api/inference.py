"""What every route that classifies does around the classifier: limits, the caller's connection, where the time went."""

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
"""`top_k` of the protocols whose answers have every label."""


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
    """W3C Server Timing, in milliseconds, the longest of each; `total` counts from the request's head to here."""
    durations_s = {
        "queue": max(stage.queue_s for stage in stages),
        "tokenize": max(stage.tokenize_s for stage in stages),
        "infer": max(stage.infer_s for stage in stages),
        "total": time.monotonic() - since,
    }
    return ", ".join(f"{stage};dur={1_000 * seconds:.2f}" for stage, seconds in durations_s.items())


T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[object, object, T]) -> T:
    """Await `work`, or cancel it and raise `ClientDisconnected` when the caller hangs up first.

    To be called after the body has been read.
    """
    working = asyncio.current_task()
    assert working is not None
    waiting, left = True, False

    def leave(_: asyncio.Task[None]) -> None:
        nonlocal left
        if waiting:
            left = working.cancel()

    watching = asyncio.create_task(_hung_up(request))
    watching.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left or working.uncancel():
            raise  # somebody else cancelled this task
        raise ClientDisconnected("the caller hung up") from None
    finally:
        waiting = False
        watching.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
