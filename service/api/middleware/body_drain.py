"""The ASGI layer that reads on after an early answer, so that the answer arrives.

A request that is refused before its body was read, by a server that then closes the connection (`Connection: close`,
or on its way out), leaves bytes in the socket: the system answers those with a reset, which can overtake the refusal.
"""

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 10.0
"""How long the rest of a body is read, and thrown away, after its answer."""
IDLE_S = 2.0
"""How long nothing may come of it meanwhile."""


class DrainBodyMiddleware:
    """Sends an answer whole, but ends it only after the request's body or after `LINGER_S`. To be outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _sends_a_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.linger()


def _sends_a_body(headers: Headers) -> bool:
    """Whether bytes may follow, unasked: who expects a 100 and gets another status keeps its body."""
    return ("transfer-encoding" in headers or headers.get("content-length", "0") != "0") and "expect" not in headers


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._body_ended = self._lingers = False

    async def receive(self) -> Message:
        """The next piece of the body; the last one is noticed."""
        message = await self._receive()
        self._body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on; the last piece as one that another follows, where the body has not ended."""
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self._body_ended:
            self._lingers = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def linger(self) -> None:
        """Read the rest of the body and end the answer, where it was sent before that."""
        if not self._lingers:
            return
        ends = time.monotonic() + LINGER_S
        with suppress(TimeoutError):
            while not self._body_ended and time.monotonic() < ends:
                async with asyncio.timeout(IDLE_S):
                    await self.receive()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
