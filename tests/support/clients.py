"""The client in both of its forms, behind one function each: what a test asks is asked with and without `async`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal

from superpos_client import AsyncClient, Client

Form = Literal["sync", "async"]
FORMS: tuple[Form, ...] = ("sync", "async")


def ask(form: Form, url: str, call: Callable[[Any], Any], **options: Any) -> Any:
    """Call a client of a server; what it returns is awaited, and what it yields is collected."""
    if form == "sync":
        with Client(url, **options) as client:
            found = call(client)
            return list(found) if isinstance(found, Iterator) else found

    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            found = call(client)
            if isinstance(found, AsyncIterator):
                return [each async for each in found]
            return await found if isinstance(found, Awaitable) else found

    return asyncio.run(run())
