"""Limits the size of request bodies before anything parses them."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.request_body import BODY_LIMIT
from service.errors import BodyTooLarge


class BodyLimitMiddleware:
    """Rejects a body by its Content-Length, or at the first chunk above the limit.

    The matched route sets the limit by its `ExpectedBody`. Other routes read no body; theirs is limited to
    `unmatched_bytes`.
    """

    def __init__(self, app: ASGIApp, *, unmatched_bytes: int) -> None:
        self._app, self._unmatched_bytes = app, unmatched_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("Content-Length", "0")
        stated, received = int(declared[:20]) if declared.isdecimal() else 0, 0

        async def limited() -> Message:
            nonlocal received
            limit = scope["state"].get(BODY_LIMIT, self._unmatched_bytes)
            received = received or (stated if stated > limit else 0)
            message = await receive() if received <= limit else {"type": "http.request"}
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLarge(f"the body has at least {received} bytes, this route accepts at most {limit}")
            return message

        await self._app(scope, limited, send)
