"""Request targets, methods and lengths as proxies send them: absolute form, `OPTIONS *`, HEAD, ambiguous lengths."""

import re
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import MalformedRequest

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/]*)(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


class RequestTargetMiddleware:
    """Turns `GET http://host/path` into `GET /path` for that host, and answers `OPTIONS *`.

    The target's host replaces the `Host` header, as RFC 9112, section 3.2.2 requires: whatever checks the host must be
    inside, so that it checks the one that is asked for. A request with both `Content-Length` and `Transfer-Encoding` is
    refused: a proxy that trusts the other length would see another request (request smuggling, section 6.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _read_target(scope)
            except MalformedRequest as exc:
                await problem_response(Request(scope), exc)(scope, receive, send)
                return
            if (scope["method"], scope["path"]) == ("OPTIONS", "*"):
                await Response(status_code=204, headers={"Allow": _METHODS})(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _read_target(scope: Scope) -> None:
    """Replace an absolute target by its path, and the `Host` header by its host.

    Raises:
        MalformedRequest: the target has no host or a user, or the request has two lengths
    """
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        raise MalformedRequest("the request has Content-Length and Transfer-Encoding, expected one of them")
    target = _ABSOLUTE.fullmatch(scope["raw_path"])
    if target is None:
        return
    if not target["authority"] or b"@" in target["authority"]:
        raise MalformedRequest("the request target must name a host, and no user")
    _rewrite(scope, target["authority"], target["path"] or b"/")


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

        has_ended = False

        async def send_without_body(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return  # the rest of a body in parts, which compression would make a few bytes of
            if message["type"] == "http.response.body":
                has_ended = True
                message = {**message, "body": b"", "more_body": False}
            await send(message)

        # in place: the outer middleware reads what the router adds to this scope
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"
