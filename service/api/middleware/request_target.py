"""Request targets, methods and lengths as proxies send them: absolute form, `OPTIONS *`, HEAD, ambiguous lengths."""

import re
from urllib.parse import unquote

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/]*)(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_TWO_LENGTHS = "The request has Content-Length and Transfer-Encoding, expected one of them.\n"
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


class RequestTargetMiddleware:
    """Turns `GET http://host/path` into `GET /path` for that host, and answers `OPTIONS *`. Must be outermost.

    The target's host replaces the `Host` header, as RFC 9112, section 3.2.2 requires: whatever checks the host checks
    the one that is asked for. A request with both `Content-Length` and `Transfer-Encoding` is refused and its
    connection closed: a proxy that trusts the other length would see another request (request smuggling, section 6.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and {b"content-length", b"transfer-encoding"} <= {
            name for name, _ in scope["headers"]
        }:
            refusal = PlainTextResponse(_TWO_LENGTHS, status_code=400, headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        if scope["type"] == "http" and not scope["raw_path"].startswith(b"/"):
            if (scope["method"], scope["path"]) == ("OPTIONS", "*"):
                await Response(status_code=204, headers={"Allow": _METHODS})(scope, receive, send)
                return
            if target := _ABSOLUTE.fullmatch(scope["raw_path"]):
                if not target["authority"] or b"@" in target["authority"]:
                    reason = "The request target must name a host, and no user."
                    await PlainTextResponse(reason, status_code=400)(scope, receive, send)
                    return
                _rewrite(scope, target["authority"], target["path"] or b"/")
        await self._app(scope, receive, send)


def _rewrite(scope: Scope, authority: bytes, path: bytes) -> None:
    scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
    scope["headers"] = [(b"host", authority), *(field for field in scope["headers"] if field[0].lower() != b"host")]


class HeadMiddleware:
    """Answers HEAD by GET without the body, wherever there is a GET. Must be innermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # in place: the outer middleware reads what the router adds to this scope
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"
