"""Limits the size of request bodies before anything parses them."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge

UPLOAD_SUFFIX = "/versions"


class BodyLimitMiddleware:
    """Rejects a body by its Content-Length, or at the first chunk above the limit of its route."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int) -> None:
        self._app, self._max_body_bytes, self._max_upload_bytes = app, max_body_bytes, max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_upload_bytes if scope["path"].endswith(UPLOAD_SUFFIX) else self._max_body_bytes
        declared = Headers(scope=scope).get("Content-Length", "0")
        received = int(declared) if declared.isdecimal() and int(declared) > limit else 0

        async def limited() -> Message:
            nonlocal received
            message = await receive() if received <= limit else {"type": "http.request"}
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLarge(f"the body has at least {received} bytes, this route accepts at most {limit}")
            return message

        await self._app(scope, limited, send)
