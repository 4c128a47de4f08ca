"""Maps every error to an HTTP response: RFC 9457 problem details with a stable `type`, `code` and `request_id`.

`PROBLEM_TYPES` is the only such table. A compatible API changes nothing but the body, by its `ErrorFormat`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from json import JSONDecodeError
from reprlib import Repr

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route

from adapters import (
    Conflict,
    InvalidAdapter,
    InvalidName,
    InvalidRow,
    InvalidTraffic,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    PromotionRefused,
    RegistryReadOnly,
    RegistryUnavailable,
)
from backbone import InvalidLabels, TextTooLong
from service.api.reflection import readable, shortened
from service.errors import (
    AccountsOutdated,
    AdapterTripped,
    BackboneMismatch,
    BodyTimeout,
    BodyTooLarge,
    ClientDisconnected,
    DeadlineExceeded,
    Forbidden,
    InferenceFailed,
    InvalidRequest,
    MalformedBody,
    MalformedRequest,
    Misdirected,
    NotReady,
    OutOfMemory,
    OverServerLimit,
    PrecisionNotValidated,
    PreconditionFailed,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RetentionOff,
    Unauthenticated,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from service.releases.publisher import RefusedUpload
from service.telemetry.request_record import current_record

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499
TYPE_PREFIX = "urn:superpos:problem:"
_MAX_ERRORS = 20
"""Number of validation errors in a response."""
_MAX_SHOWN_ITEMS = 20
_MAX_FAULTS = 8
"""Faults of one group of checks in a problem."""
_REPR = Repr()
_REPR.maxlist = _REPR.maxdict = _MAX_SHOWN_ITEMS
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


@dataclass(frozen=True, slots=True)
class ProblemType:
    """HTTP status, stable code and headers of one kind of error."""

    status: int
    code: str
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that the response always has."""


PROBLEM_TYPES: Mapping[type[Exception], ProblemType] = {
    InvalidName: ProblemType(400, "invalid_name"),
    MalformedBody: ProblemType(400, "malformed_body"),
    MalformedRequest: ProblemType(400, "malformed_request", headers={"Connection": "close"}),
    Unauthenticated: ProblemType(401, "unauthenticated", headers={"WWW-Authenticate": "Bearer"}),
    Forbidden: ProblemType(403, "forbidden"),
    NotFound: ProblemType(404, "not_found"),
    BodyTimeout: ProblemType(408, "body_timeout", headers={"Connection": "close"}),
    Conflict: ProblemType(409, "conflict"),
    PromotionRefused: ProblemType(409, "promotion_refused"),
    QuotaExceeded: ProblemType(409, "quota_exceeded"),
    LimitReached: ProblemType(409, "quota_exceeded"),
    RetentionOff: ProblemType(409, "retention_off"),
    BackboneMismatch: ProblemType(409, "backbone_mismatch"),
    PrecisionNotValidated: ProblemType(409, "precision_not_validated"),
    OverServerLimit: ProblemType(409, "over_server_limit"),
    PreconditionFailed: ProblemType(412, "precondition_failed"),
    BodyTooLarge: ProblemType(413, "body_too_large"),
    UnsupportedMediaType: ProblemType(415, "unsupported_media_type"),
    UnsupportedEncoding: ProblemType(415, "unsupported_encoding", headers={"Accept-Encoding": "gzip"}),
    Misdirected: ProblemType(421, "misdirected"),
    InvalidRow: ProblemType(422, "invalid_input"),
    TextTooLong: ProblemType(422, "text_too_long"),
    InvalidTraffic: ProblemType(422, "invalid_traffic"),
    InvalidRequest: ProblemType(422, "invalid_request"),
    InvalidAdapter: ProblemType(422, "invalid_adapter"),
    InvalidLabels: ProblemType(422, "invalid_adapter"),
    QueueFull: ProblemType(429, "queue_full", retry_after_s=1),
    RateLimited: ProblemType(429, "rate_limited"),  # the error has its own retry_after_s
    ClientDisconnect: ProblemType(CLIENT_CLOSED_REQUEST, "client_closed_request"),  # while reading the body
    ClientDisconnected: ProblemType(CLIENT_CLOSED_REQUEST, "client_closed_request"),
    InferenceFailed: ProblemType(500, "inference_failed"),
    AccountsOutdated: ProblemType(503, "accounts_unavailable", retry_after_s=5),
    NotReady: ProblemType(503, "not_ready", retry_after_s=1),
    AdapterTripped: ProblemType(503, "adapter_tripped"),  # the error has its own retry_after_s
    OutOfMemory: ProblemType(503, "out_of_memory", retry_after_s=5),
    RegistryUnavailable: ProblemType(503, "registry_unavailable", retry_after_s=5),
    DeadlineExceeded: ProblemType(504, "deadline_exceeded"),
}

FRAMEWORK_CODES: Mapping[int, str] = {400: "malformed", 404: "not_found", 405: "method_not_allowed"}
"""Codes of the errors that Starlette raises itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as a client sees it, in no particular format yet."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    """Members in addition to the standard ones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", readable(self.detail))

    @property
    def title(self) -> str:
        """The status in words."""
        return "Client Closed Request" if self.status == CLIENT_CLOSED_REQUEST else HTTPStatus(self.status).phrase


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """Error bodies of a compatible API."""

    prefixes: tuple[str, ...]
    """The paths of the API."""
    model: type[BaseModel]
    convert: Callable[[Problem], BaseModel]

    def covers(self, path: str) -> bool:
        """Whether a path belongs to the API."""
        return any(path == prefix or path.startswith(prefix + "/") for prefix in self.prefixes)


def register_handlers(app: FastAPI, routes: Sequence[BaseRoute], *, formats: Sequence[ErrorFormat] = ()) -> None:
    """Turn every error of the table and of the framework into a problem response."""
    app.state.error_formats = tuple(formats)
    app.state.documented = tuple(route for route in routes if isinstance(route, Route))
    for error in PROBLEM_TYPES:
        app.add_exception_handler(error, problem_response)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)


def problem_of(exc: Exception) -> Problem:
    """Return the problem of an error in the table."""
    kind = next(PROBLEM_TYPES[error] for error in type(exc).__mro__ if error in PROBLEM_TYPES)
    headers = dict(kind.headers)
    retry_after_s = getattr(exc, "retry_after_s", kind.retry_after_s)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    extra: dict[str, object] = {}
    if isinstance(exc, InvalidAdapter | InvalidLabels):
        extra = _fault(exc)
    if isinstance(exc, RefusedUpload):
        extra["checks"] = _checks(exc)
    if isinstance(exc, PromotionRefused):
        extra = {"metric": exc.metric, "candidate": exc.candidate, "current": exc.current}
    return Problem(kind.status, kind.code, _detail(exc), headers, extra)


def _fault(exc: InvalidAdapter | InvalidLabels) -> dict[str, object]:
    return {
        "check": shortened(exc.check),
        "value": shortened(str(exc.value)),
        "expected": shortened(exc.expected, 1_000),
    }


def _checks(exc: RefusedUpload) -> list[dict[str, object]]:
    """Return the results of all checks of an upload, in their order."""
    found: list[dict[str, object]] = [
        {
            "name": each.name,
            "result": "failed" if each.faults else "passed" if each.is_run else "not_run",
            "faults": [_fault(fault) for fault in each.faults[:_MAX_FAULTS]],
        }
        for each in exc.checks
    ]
    result, faults = ("failed", [_fault(exc)]) if exc.is_of_forward else ("not_run", [])
    return [*found, {"name": "forward", "result": result, "faults": faults}]


def _detail(exc: Exception) -> str:
    """Return the part of an error that the caller may see; the log has the rest, such as addresses and paths."""
    if isinstance(exc, RegistryReadOnly):
        return (
            "the registry can be read but not written, and nothing was changed; if its disk is full, the operator has "
            "to free space: the log has the reason"
        )
    if isinstance(exc, RegistryUnavailable) and not isinstance(exc, OutcomeUnknown):
        return "the registry cannot be reached; tasks in use are still served, and the log has the reason"
    return without_reason(str(exc)) if isinstance(exc, NotReady | InferenceFailed) else str(exc)


def without_reason(text: str) -> str:
    """Remove the exception's message after the first colon of a sentence."""
    return text.partition(": ")[0]


def problem_body(request: Request, problem: Problem) -> dict[str, object]:
    """Return the members of RFC 9457 and our own."""
    return {
        "type": TYPE_PREFIX + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "instance": shortened(request.scope["path"]),
        "request_id": request.scope.get("state", {}).get("request_id"),
        **problem.extra,
    }


def _shown(value: object) -> str:
    """Return the beginning of a value's `repr`, without making all of it."""
    if isinstance(value, str | bytes):
        return repr(value[:200])[:200]
    if isinstance(value, list | dict) and len(value) > _MAX_SHOWN_ITEMS:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} values"
    return str(_REPR.repr(value))[:200]


def _respond(request: Request, problem: Problem) -> JSONResponse:
    """Return the response in the format of the requested API."""
    current_record().code = problem.code
    body, media_type = problem_body(request, problem), MEDIA_TYPE
    for error_format in request.app.state.error_formats:
        if error_format.covers(request.scope["path"]):
            body, media_type = error_format.convert(problem).model_dump(), "application/json"
    return JSONResponse(body, status_code=problem.status, media_type=media_type, headers=dict(problem.headers))


def problem_response(request: Request, exc: Exception) -> JSONResponse:
    """Return the response for an error in the table."""
    current_record().error = exc
    return _respond(request, problem_of(exc))


def _invalid(request: Request, exc: Exception) -> JSONResponse:
    """Return the response for an invalid body or parameter: 400 for malformed JSON, else 422 with every location."""
    assert isinstance(exc, RequestValidationError)
    errors = [_plain(error) for error in exc.errors()[:_MAX_ERRORS]]
    extra = {"errors": errors}
    if exc.errors()[0]["type"] == "json_invalid":
        cause = exc.errors()[0].get("ctx", {}).get("error", "not JSON")
        return _respond(request, Problem(400, "malformed_json", f"the body is not JSON: {cause}", extra=extra))
    first = errors[0]
    detail = f"{first['location']}: {first['message']} (got {first['value']})"
    return _respond(request, Problem(422, "invalid_request", detail, extra=extra))


def _plain(error: Mapping[str, object]) -> dict[str, str]:
    location = error["loc"]
    assert isinstance(location, tuple)
    value = "nothing" if error["type"] == "missing" else _shown(error.get("input"))
    message = str(error["msg"]).removeprefix("Value error, ")
    return {"location": shortened(".".join(map(str, location))), "message": shortened(message), "value": value}


def _framework(request: Request, exc: Exception) -> JSONResponse:
    """Return the response for an `HTTPException`. An error while reading the body is its cause."""
    assert isinstance(exc, HTTPException)
    cause = exc.__cause__
    if isinstance(cause, Exception) and type(cause) in PROBLEM_TYPES:
        return problem_response(request, cause)
    if isinstance(cause, UnicodeDecodeError):
        where = f"byte 0x{cause.object[cause.start]:02x} at position {cause.start}"
        return _respond(request, Problem(400, "malformed_json", f"the body is not UTF-8: {where}"))
    if isinstance(cause, JSONDecodeError | RecursionError):
        return _respond(request, Problem(400, "malformed_json", f"the body is not JSON: {cause}"))
    code = FRAMEWORK_CODES.get(exc.status_code, "http_error")
    if exc.status_code == 404:
        return _respond(request, Problem(404, code, f"no route {shortened(request.scope['path'])}"))
    if exc.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        detail = f"method {request.method} is not allowed for {shortened(request.scope['path'])}; use {allowed}"
        return _respond(request, Problem(405, code, detail, {"Allow": allowed}))
    return _respond(request, Problem(exc.status_code, code, str(exc.detail), exc.headers or {}))


def _methods(request: Request) -> set[str]:
    """Return every method allowed for the path; the framework reports those of one route only."""
    routes = [route for route in request.app.state.documented if route.matches(request.scope)[0] != Match.NONE]
    methods = {method for route in routes for method in route.methods or ()}
    return methods | ({"HEAD"} if "GET" in methods else set())


async def internal_error_handler(request: Request, _: Exception) -> JSONResponse:
    """Return the response for a bug. The traceback is logged under the request id."""
    detail = "internal error; include request_id when reporting it"
    # uvicorn closes the connection after an unhandled error: without this header the client's next request is lost
    return _respond(request, Problem(500, "internal_error", detail, {"Connection": "close"}))
