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
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnected("the caller hung up")
        return await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
