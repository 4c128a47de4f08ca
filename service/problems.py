"""The one table from errors to HTTP: RFC 9457 problem details with a stable `type`, `code` and `request_id`."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from json import JSONDecodeError

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from adapters import Conflict, InvalidAdapter, InvalidName, InvalidRow, InvalidTraffic, NotFound, RegistryUnavailable
from backbone import InvalidLabels, TextTooLong
from service.errors import (
    AdapterTripped,
    BackboneMismatch,
    BodyTooLarge,
    ClientDisconnected,
    DeadlineExceeded,
    Forbidden,
    InferenceFailed,
    InvalidRequest,
    NotReady,
    OutOfMemory,
    QueueFull,
    Unauthenticated,
    UnsupportedMediaType,
)
from service.facts import current_facts

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499
TYPE_PREFIX = "urn:superpos:problem:"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error is to a caller."""

    status: int
    code: str
    retry_after_s: int | None = None
    challenge: str | None = None
    """The `WWW-Authenticate` field: how to show who one is."""


MEANINGS: Mapping[type[Exception], Meaning] = {
    InvalidName: Meaning(400, "invalid_name"),
    Unauthenticated: Meaning(401, "unauthenticated", challenge="Bearer"),
    Forbidden: Meaning(403, "forbidden"),
    NotFound: Meaning(404, "not_found"),
    Conflict: Meaning(409, "conflict"),
    BackboneMismatch: Meaning(409, "backbone_mismatch"),
    BodyTooLarge: Meaning(413, "body_too_large"),
    UnsupportedMediaType: Meaning(415, "unsupported_media_type"),
    InvalidRow: Meaning(422, "invalid_input"),
    TextTooLong: Meaning(422, "text_too_long"),
    InvalidTraffic: Meaning(422, "invalid_traffic"),
    InvalidRequest: Meaning(422, "invalid_request"),
    InvalidAdapter: Meaning(422, "invalid_adapter"),
    InvalidLabels: Meaning(422, "invalid_adapter"),
    QueueFull: Meaning(429, "queue_full", retry_after_s=1),
    ClientDisconnect: Meaning(CLIENT_CLOSED_REQUEST, "client_closed_request"),  # while the body was read
    ClientDisconnected: Meaning(CLIENT_CLOSED_REQUEST, "client_closed_request"),
    InferenceFailed: Meaning(500, "inference_failed"),
    NotReady: Meaning(503, "not_ready", retry_after_s=1),
    AdapterTripped: Meaning(503, "adapter_tripped"),  # the error itself says when to come again
    OutOfMemory: Meaning(503, "out_of_memory", retry_after_s=5),
    RegistryUnavailable: Meaning(503, "registry_unavailable", retry_after_s=5),
    DeadlineExceeded: Meaning(504, "deadline_exceeded"),
}


def install(app: FastAPI) -> None:
    """Answer every error of the table, of the framework and of nobody's foresight with problem details."""
    for error in MEANINGS:
        app.add_exception_handler(error, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unforeseen)


def problem(request: Request, status: int, code: str, detail: str, **extra: object) -> JSONResponse:
    """A problem response; `extra` members stand beside the standard ones."""
    current_facts().code = code
    title = "Client Closed Request" if status == CLIENT_CLOSED_REQUEST else HTTPStatus(status).phrase
    body = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request.url.path,
        "request_id": request.scope.get("state", {}).get("request_id"),
        **extra,
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def _known(request: Request, exc: Exception) -> JSONResponse:
    meaning = next(MEANINGS[error] for error in type(exc).__mro__ if error in MEANINGS)
    extra = {}
    if isinstance(exc, InvalidAdapter | InvalidLabels):
        extra = {"check": exc.check, "value": str(exc.value)[:200], "expected": exc.expected}
    current_facts().error = exc
    response = problem(request, meaning.status, meaning.code, str(exc), **extra)
    retry_after_s = getattr(exc, "retry_after_s", meaning.retry_after_s)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if meaning.challenge is not None:
        response.headers["WWW-Authenticate"] = meaning.challenge
    return response


def _invalid(request: Request, exc: Exception) -> JSONResponse:
    """A body or parameter that pydantic refused: 400 where it is no JSON, else 422 with every place."""
    assert isinstance(exc, RequestValidationError)
    errors = [_plain(error) for error in exc.errors()]
    if exc.errors()[0]["type"] == "json_invalid":
        cause = exc.errors()[0].get("ctx", {}).get("error", "not JSON")
        return problem(request, 400, "malformed_json", f"the body is not JSON: {cause}", errors=errors)
    first = errors[0]
    detail = f"{first['location']}: {first['message']} (got {first['value']})"
    return problem(request, 422, "invalid_request", detail, errors=errors)


def _plain(error: Mapping[str, object]) -> dict[str, str]:
    location = error["loc"]
    assert isinstance(location, tuple)
    value = "nothing" if error["type"] == "missing" else repr(error.get("input"))[:200]
    message = str(error["msg"]).removeprefix("Value error, ")
    return {"location": ".".join(map(str, location)), "message": message, "value": value}


def _framework(request: Request, exc: Exception) -> JSONResponse:
    """An `HTTPException` of the framework; what it hides of the body's reading is its cause."""
    assert isinstance(exc, HTTPException)
    cause = exc.__cause__
    if cause is not None and type(cause) in MEANINGS and isinstance(cause, Exception):
        return _known(request, cause)
    encoding = request.headers.get("Content-Encoding", "identity")
    if cause is not None and encoding != "identity":
        return _known(request, UnsupportedMediaType(f"Content-Encoding is {encoding!r}, expected none"))
    if isinstance(cause, UnicodeDecodeError):
        wrong = f"byte 0x{cause.object[cause.start]:02x} at position {cause.start}"
        return problem(request, 400, "malformed_json", f"the body is not UTF-8: {wrong}")
    if isinstance(cause, JSONDecodeError | RecursionError):
        return problem(request, 400, "malformed_json", f"the body is not JSON: {cause}")
    codes = {400: "malformed", 404: "not_found", 405: "method_not_allowed"}
    code = codes.get(exc.status_code, "http_error")
    detail = f"no route {request.url.path}" if exc.status_code == 404 else str(exc.detail)
    response = problem(request, exc.status_code, code, detail)
    response.headers.update(exc.headers or {})
    return response


def _unforeseen(request: Request, _: Exception) -> JSONResponse:
    """A bug: the log has the traceback, the caller a request id to quote."""
    return problem(request, 500, "internal_error", "the server failed at this request; quote the request id")
