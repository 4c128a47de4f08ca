"""Routes' reads of long logs, in pieces between which the model and other requests run."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from adapters.registry.log_reading import LogPart
from adapters.registry.protocol import Change
from service.api.schemas.tasks import ChangeBody, ChangeLog
from service.pieces import map_in_pieces
from service.runtime import Runtime

Pause = Callable[[], None]
T = TypeVar("T")


async def search(runtime: Runtime, blocking: Callable[[Pause], T]) -> T:
    """Run a blocking search of a log in a thread.

    Args:
        blocking: calls its argument after each page that it has read
    """
    return await asyncio.to_thread(lambda: blocking(runtime.inference.engine.activity.pause()))


async def change_log(part: LogPart[Change]) -> ChangeLog:
    """Return a part of the registry's change log as a response body."""
    entries = await map_in_pieces(ChangeBody.model_validate, part.entries, values_each=len(ChangeBody.model_fields))
    return ChangeLog(entries=entries, position=part.position, complete=part.complete)
