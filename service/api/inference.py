"""The common part of every route that classifies: limits, disconnects, `Server-Timing`."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import TypeVar

from fastapi import Request, Response

from adapters.task import MAX_LABELS
from backbone import Truncation
from service.api.dependencies import TASK_HEADER
from service.errors import ClientDisconnected, InvalidRequest
from service.inference.predictions import Classification, Prediction, Stages
from service.inference.request import InferenceRequest, Item
from service.settings import Settings
from service.telemetry.request_record import current_record

ALL_LABELS = MAX_LABELS
"""`top_k` of the protocols that always return every label."""


def inference_request(
    settings: Settings,
    tenant: str,
    items: Sequence[Item],
    *,
    truncation: Truncation = "error",
    top_k: int | None = ALL_LABELS,
    timeout_ms: int | None = None,
    sticky_key: str | None = None,
    num_tasks: int = 1,
) -> InferenceRequest:
    """Build a request that keeps to the server's limits (`InvalidRequest`).

    Args:
        timeout_ms: None for the server's default
        num_tasks: how many tasks classify the items
    """
    rows, most = len(items) * num_tasks, settings.max_rows_per_request
    if rows > most:
        times = f" for {num_tasks} tasks, {rows} rows" if num_tasks > 1 else ""
        raise InvalidRequest(f"inputs has {len(items)} items{times}, expected at most {most}")
    if (timeout_ms or 0) > settings.max_timeout_ms:
        raise InvalidRequest(f"timeout_ms is {timeout_ms}, expected at most {settings.max_timeout_ms}")
    timeout_s = (timeout_ms or settings.default_timeout_ms) / 1_000
    request_id = current_record().request_id
    return InferenceRequest(tenant, items, timeout_s, truncation, top_k, sticky_key, request_id=request_id)


def server_timing(stages: Sequence[Stages], *, since: float) -> str:
    """Format W3C Server-Timing in ms: the longest of each stage, and `total` since the request arrived."""
    durations_s = {
        "queue": max(stage.queue_s for stage in stages),
        "tokenize": max(stage.tokenize_s for stage in stages),
        "infer": max(stage.infer_s for stage in stages),
        "total": time.monotonic() - since,
    }
    return ", ".join(f"{stage};dur={1_000 * seconds:.2f}" for stage, seconds in durations_s.items())


VERSION_HEADER = "X-Superpos-Version"
ADAPTER_HEADER = "X-Superpos-Adapter"
PRECISION_HEADER = "X-Superpos-Precision"
WARNING = "X-Superpos-Warning"
"""Header of the compatible APIs, whose bodies have no place for what a native prediction says."""
_MAX_WARNINGS = 32


def identify(response: Response, classification: Classification) -> None:
    """State in headers which task has classified, by which version and adapter, and in which precision."""
    resolution = classification.resolution
    response.headers[TASK_HEADER] = resolution.task
    response.headers[VERSION_HEADER] = str(resolution.version)
    response.headers[ADAPTER_HEADER] = resolution.digest
    response.headers[PRECISION_HEADER] = classification.precision


def annotate(response: Response, *classifications: Classification) -> None:
    """State in headers what the body of a compatible API has no place for.

    That is the version, where one task has classified, and the rows that were truncated or barely read, by index, as a
    structured list (RFC 9651): `0;lost_tokens=584, 3;unknown_tokens=0.75, more;rows=2`. Beyond 32 such rows, it is only
    their number; the rows of several tasks have a parameter `task`.
    """
    rows = []
    if len(classifications) == 1:
        identify(response, classifications[0])
    for classification in classifications:
        task = f';task="{classification.resolution.task}"' if len(classifications) > 1 else ""
        rows += [f"{index}{notes}{task}" for index, notes in _notes(classification.predictions)]
    if rows:
        more = [f"more;rows={len(rows) - _MAX_WARNINGS}"] if len(rows) > _MAX_WARNINGS else []
        response.headers[WARNING] = ", ".join([*rows[:_MAX_WARNINGS], *more])


def _notes(predictions: Sequence[Prediction]) -> Iterator[tuple[int, str]]:
    for index, prediction in enumerate(predictions):
        notes = f";lost_tokens={sum(prediction.lost_tokens.values())}" if prediction.truncated else ""
        if prediction.unknown_tokens is not None:
            notes += f";unknown_tokens={prediction.unknown_tokens:.2f}"
        if notes:
            yield index, notes


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
