"""Answers conditional reads with 304; routes only set their `ETag`."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.releases.preconditions import is_listed


class ConditionalGetMiddleware:
    """Turns a 200 whose entity tag is listed in `If-None-Match` into a 304 without a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = Headers(scope=scope).get("If-None-Match") if scope["type"] == "http" else None
        if known is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        modified = True

        async def send_unless_known(message: Message) -> None:
            nonlocal modified
            if message["type"] == "http.response.start":
                modified = not _is_known(message, known)
                if not modified:
                    message["status"] = 304
                    headers = MutableHeaders(scope=message)
                    for name in ("Content-Length", "Content-Type"):
                        del headers[name]
            elif not modified:
                message["body"] = b""
            await send(message)

        await self._app(scope, receive, send_unless_known)


def _is_known(message: Message, known: str) -> bool:
    tag = Headers(raw=message["headers"]).get("ETag")
    return message["status"] == 200 and tag is not None and is_listed(known, tag)
