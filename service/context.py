"""The outermost ASGI layer: request id, trace context, metrics and one log line a request."""

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.drain import Drain
from service.facts import begin_facts
from service.metrics import Metrics
from service.problems import CLIENT_CLOSED_REQUEST
from service.request_metrics import OTHER_ROUTE

REQUEST_ID = "X-Request-ID"
TRACEPARENT = "traceparent"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_log = structlog.get_logger("service")


class RequestContext:
    """Gives every request an id, echoes it, and counts the request once when it arrives and once when it ends."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, drain: Drain) -> None:
        self._app, self._metrics, self._drain = app, metrics, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._metrics, self._drain)
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            exchange.end()


class _Exchange:
    def __init__(self, scope: Scope, send: Send, metrics: Metrics, drain: Drain) -> None:
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        self._request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        trace = headers.get(TRACEPARENT, "")
        self._traceparent = trace if _TRACEPARENT.fullmatch(trace) else None
        self._started = time.monotonic()
        scope.setdefault("state", {}).update(request_id=self._request_id, received_at=self._started)
        self._scope, self._send, self._metrics, self._drain = scope, send, metrics, drain
        self._facts = begin_facts()
        metrics.request_received()
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            if self._drain.begun:
                headers["Connection"] = "close"
            if self._traceparent:
                headers[TRACEPARENT] = self._traceparent
        await self._send(message)

    def end(self) -> None:
        """Count and log; without a status the application raised, which its caller turns into a 500."""
        seconds = time.monotonic() - self._started
        status = self._status or 500
        route = getattr(self._scope.get("route"), "path", OTHER_ROUTE)
        if status == CLIENT_CLOSED_REQUEST:
            self._metrics.request_cancelled(route, self._facts)
        else:
            self._metrics.request_answered(route, status, seconds, self._facts)
        _log.info(
            "request",
            request_id=self._request_id,
            method=self._scope["method"],
            route=route,
            status=status,
            duration_ms=round(1_000 * seconds, 1),
        )
