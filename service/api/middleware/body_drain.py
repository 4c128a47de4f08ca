"""Reads the rest of a request's body after an early response, so that the response arrives.

If the server closes a connection with unread bytes in its socket (`Connection: close`, or while draining), the system
sends a reset, which can overtake the response and discard it.
"""

import asyncio
import time
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_TIMEOUT_S = 10.0
"""Time limit for reading and discarding the rest of a body."""
IDLE_TIMEOUT_S = 2.0
"""Time limit without any new bytes."""


class DrainBodyMiddleware:
    """Sends a response at once, but ends it only after the request's body or a time limit. Must be outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _sends_a_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.drain()


def _sends_a_body(headers: Headers) -> bool:
    """Whether the client sends a body without waiting for a 100 (Continue)."""
    return ("transfer-encoding" in headers or headers.get("content-length", "0") != "0") and "expect" not in headers


class _Exchange:
    """One request and its response."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._body_ended = self._is_ended_early = self._is_late = False

    async def receive(self) -> Message:
        """Return the next chunk of the body."""
        message = await self._receive()
        self._body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a message; if the body has not ended, keep the response open after its last chunk."""
        if message["type"] == "http.response.start":
            self._is_late = message["status"] == HTTPStatus.REQUEST_TIMEOUT
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self._body_ended:
            self._is_ended_early = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def drain(self) -> None:
        """Read the rest of the body, then end the response, if it is still open."""
        if not self._is_ended_early:
            return
        # the deadline has already passed for this body: do not wait for it again
        ends = time.monotonic() + (0 if self._is_late else DRAIN_TIMEOUT_S)
        with suppress(TimeoutError):
            while not self._body_ended and time.monotonic() < ends:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    await self.receive()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
