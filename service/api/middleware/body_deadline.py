"""Limits the time that a request body may take to arrive."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTimeout


class BodyDeadlineMiddleware:
    """Stops reading a body that is not complete in time (`BodyTimeout`)."""

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self._app, self._timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        has_ended = False

        async def timed() -> Message:
            nonlocal has_ended
            if has_ended:  # only the client's disconnect can follow
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as exc:
                raise BodyTimeout(f"the body did not arrive within {self._timeout_s:g} s; send it again") from exc
            has_ended = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        await self._app(scope, timed, send)
