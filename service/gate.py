"""The ASGI layer that knows who asks: looked up once a request, before the first byte of its body is read."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.caller import ANYBODY, Caller
from service.directory import Directory
from service.errors import Unauthenticated
from service.keys import caller_by_key

VISIT = "visit"
API_KEY = "X-API-Key"
_BEARER = "bearer "


class Gate:
    """Puts a `Visit` into every request's state. Who reads the body, or asks who the caller is, enters it."""

    def __init__(self, app: ASGIApp, *, directory: Directory, require_keys: bool) -> None:
        self._app, self._directory, self._require_keys = app, directory, require_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(lambda: self._identify(Headers(scope=scope)))
        scope.setdefault("state", {})[VISIT] = visit

        async def entered() -> Message:
            # an error raised here comes out where the body is read, as the body's own errors do
            await visit.enter()
            return await receive()

        await self._app(scope, entered, send)

    async def _identify(self, headers: Headers) -> Caller:
        if not self._require_keys:
            return ANYBODY
        text = _shown_key(headers)
        if not text:
            raise Unauthenticated(
                f"no key: send it as 'Authorization: Bearer sp_…' or as '{API_KEY}: sp_…'", reason="missing"
            )
        return caller_by_key(text, self._directory.key, now=datetime.now(UTC))


class Visit:
    """One request's way in."""

    def __init__(self, identify: Callable[[], Awaitable[Caller]]) -> None:
        self._identify = identify
        self.caller: Caller | None = None

    async def enter(self) -> Caller:
        """Who asks (`Unauthenticated`)."""
        if self.caller is None:
            self.caller = await self._identify()
        return self.caller


def _shown_key(headers: Headers) -> str:
    authorization = headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get(API_KEY, "")
