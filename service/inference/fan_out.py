"""One request for several tasks, each of which is answered or refused separately. Independent of HTTP."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from adapters import AdapterError
from backbone import BackboneError
from service.errors import ServiceError
from service.inference.predictions import Classification


@dataclass(frozen=True, slots=True)
class Part:
    """Outcome of one ref: an answer or a refusal."""

    ref: str
    answer: Classification | None
    refusal: Exception | None


async def fan_out(
    refs: Sequence[str], classify: Callable[[str], Coroutine[object, object, Classification]]
) -> list[Part]:
    """Classify by all refs concurrently, so that their rows share batches; parts are in the order of the refs.

    Args:
        refs: refs as the caller wrote them
        classify: classifies by one ref

    Raises:
        AdapterError, BackboneError, ServiceError: the first ref's error, if no ref was answered
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_part(ref, classify)) for ref in refs]
    parts = [task.result() for task in tasks]
    first = parts[0].refusal
    if first is not None and all(part.answer is None for part in parts):
        raise first
    return parts


async def _part(ref: str, classify: Callable[[str], Coroutine[object, object, Classification]]) -> Part:
    try:
        return Part(ref, await classify(ref), None)
    except (AdapterError, BackboneError, ServiceError) as exc:
        return Part(ref, None, exc)
