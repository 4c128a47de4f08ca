"""Stops work for a caller who has hung up."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request

from service.errors import ClientDisconnected

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
