"""Gives each request an id and a trace, and reports its end once: metrics, usage, span, one log line."""

import re
import secrets
import time
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from adapters import RegistryUnavailable
from service.api.draining import Drain
from service.api.problems import CLIENT_CLOSED_REQUEST
from service.api.reflection import shortened
from service.api.request_state import REQUEST_ID_PATTERN
from service.errors import Forbidden, NotReady, Unauthenticated
from service.monitoring.usage import UsageMeter
from service.telemetry.metrics import Metrics
from service.telemetry.request_metrics import OTHER_ROUTE
from service.telemetry.request_record import RequestOutcome, RequestRecord, begin_record
from service.telemetry.trace_context import TRACEPARENT, caller_traceparent
from service.tenancy.refusals import Refusal, RefusalAudit

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing

REQUEST_ID = "X-Request-ID"

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = structlog.get_logger("service")
_PROBES = frozenset({"/healthz/live", "/healthz/ready", "/healthz/startup", "/metrics"})


class RequestContextMiddleware:
    """Outermost but one: `DrainBodyMiddleware` surrounds it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        usage: UsageMeter,
        refusals: RefusalAudit,
        drain: Drain,
        tracing: "Tracing | None",
    ) -> None:
        self._app, self._metrics, self._usage, self._drain, self._tracing = app, metrics, usage, drain, tracing
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._metrics, self._drain, self._tracing)
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            record, status = exchange.end()
            self._usage.ended(record, status)
            if isinstance(record.error, Unauthenticated | Forbidden):
                self._refusals.refused(
                    Refusal(record.tenant, record.key, client_address(scope), record.code or str(status))
                )


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics, drain: Drain, tracing: "Tracing | None") -> None:
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        self._request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        self._started = time.monotonic()
        scope.setdefault("state", {}).update(request_id=self._request_id, received_at=self._started)
        self._scope, self._send, self._metrics, self._drain = scope, send, metrics, drain
        self._record = begin_record(self._request_id)
        self._span = None if tracing is None else tracing.begin(headers)
        self._traceparent = caller_traceparent(headers) if self._span is None else self._span.traceparent
        clear_contextvars()
        bind_contextvars(request_id=self._request_id)  # part of every log line of this request
        if self._traceparent is not None:
            bind_contextvars(trace_id=self._traceparent.split("-")[1])
        metrics.request_received()
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            if self._drain.is_draining:
                headers["Connection"] = "close"
            if self._traceparent:
                headers[TRACEPARENT] = self._traceparent
        await self._send(message)

    def end(self) -> tuple[RequestRecord, int]:
        """Count and log the request; return its record and status.

        Without a response the application raised an error, for which the server sends a 500.
        """
        seconds = time.monotonic() - self._started
        if self._status is None:
            self._record.code = "internal_error"
        status = self._status or 500
        route = getattr(self._scope.get("route"), "path", OTHER_ROUTE)
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        if status == CLIENT_CLOSED_REQUEST:
            self._metrics.request_cancelled(route, self._record)
        else:
            self._metrics.request_answered(route, status, seconds, self._record)
        if self._span is not None:
            self._span.end(RequestOutcome(method, route, status, self._request_id), self._record)
        # health checks and scrapes arrive every second: logged only if the status is unusual
        log = _log.debug if route in _PROBES and status == 200 else _log.info
        log(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(1_000 * seconds, 1),
            client=client_address(self._scope),
            **_log_fields(self._record),
        )
        return self._record, status


def client_address(scope: Scope) -> str:
    """Return the client's address, which may come from a trusted proxy; "unknown" if it is not an address."""
    host, _ = scope.get("client") or ("", 0)
    return _address(host)


@lru_cache(maxsize=1_024)
def _address(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        return "unknown"


def _log_fields(record: RequestRecord) -> dict[str, object]:
    """Return the fields of the log line that come from the record, without unknown ones."""
    fields: dict[str, object] = {"tenant": record.tenant, "key": record.key, "code": record.code}
    if isinstance(record.error, RegistryUnavailable | NotReady):
        fields["reason"] = shortened(str(record.error), 500)  # the response omits it
    if len(record.resolved) == 1:
        fields |= {"task": record.resolved[0].task, "version": record.resolved[0].version}
    elif record.resolved:
        fields["tasks"] = [f"{each.task}@{each.version}" for each in record.resolved]
    if record.answered:
        fields["rows"] = sum(len(answered.predictions) for answered in record.answered)
    return {name: value for name, value in fields.items() if value is not None}
