"""Errors that the client raises: one class per kind of answer, with what the server said.

SuperposError
├── BadRequest            400, 405, 408, 413, 415, 421 and other 4xx
├── Unauthorized          401
├── Forbidden             403
├── NotFound              404
├── Conflict              409
│   └── PreconditionFailed    412
├── Invalid               422, and rows that cannot be sent
├── RateLimited           429
├── ServerFault           500 and other 5xx
├── Unavailable           502, 503
│   └── Unreachable           no answer: refused, reset, or broken off
├── DeadlineExceeded      504, or the call's own time is up
└── InvalidAnswer         an answer that the API does not have
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self

_PLACE = re.compile(r"^(inputs\[\d+\]|body\.inputs\.\d+)(: | )")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid member of a request."""

    location: str
    """For example `body.inputs.3`."""
    message: str
    value: str
    """As the server read it, shortened."""


class SuperposError(Exception):
    """Base of all errors of the client."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        detail: str = "",
        errors: tuple[FieldError, ...] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None if there was no answer."""
        self.code = code
        """Stable name of the kind of problem: decide by it (docs/api.md lists all)."""
        self.detail = detail
        """The server's sentence, with the value and what was expected."""
        self.errors = errors
        """Invalid members of the request."""
        self.request_id = request_id
        """Id of the request in the server's log."""
        self.retry_after_s = retry_after_s
        """Seconds to wait before the next try, if the server said so."""
        self.problem = dict(problem or {})
        """The whole problem (RFC 9457), with members such as `check` of a refused adapter."""
        self.row: int | None = None
        """Index of the row in the stream of `classify_many`."""

    @property
    def reason(self) -> str:
        """The error without the server's address: detail, status and code."""
        kind = " ".join(str(part) for part in (self.status, self.code) if part)
        return f"{self.detail} ({kind})" if self.detail and kind else self.detail or kind or str(self)

    def of_row(self, row: int) -> Self:
        """Return the error of one row of a stream: without the row's place in its request, which says nothing there."""
        detail = _PLACE.sub(lambda match: "" if match[2] == ": " else "the text ", self.detail)
        made = type(self)(str(self).replace(self.detail, detail) if self.detail else str(self))
        made.__dict__.update(self.__dict__, detail=detail, row=row)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), self.__dict__


class BadRequest(SuperposError):
    """The request is malformed, too large, or of a type that the route does not read."""


class Unauthorized(SuperposError):
    """The key is missing, or not valid now."""


class Forbidden(SuperposError):
    """The key's role does not permit the request."""


class NotFound(SuperposError):
    """No such task, version, alias or file, or it is another tenant's."""


class Conflict(SuperposError):
    """The registry is not in the state that the request expects, or a quota is used up."""


class PreconditionFailed(Conflict):
    """`if_match` or `if_none_match` does not hold: the alias or the traffic was changed meanwhile."""


class Invalid(SuperposError):
    """A member of the request, an input, an adapter or a traffic split is invalid."""


class RateLimited(SuperposError):
    """The server's queue is full, or the tenant is at a limit; `retry_after_s` says how long."""


class ServerFault(SuperposError):
    """The server failed at this request."""


class Unavailable(SuperposError):
    """The server, or a gateway in front of it, cannot answer now."""


class Unreachable(Unavailable):
    """No complete answer arrived: the connection was refused, reset or broken off."""


class DeadlineExceeded(SuperposError):
    """The time of the call is up, here or on the server."""


class InvalidAnswer(SuperposError):
    """The answer is not one of this API, for example another program's page."""


_BY_STATUS: dict[int, type[SuperposError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    422: Invalid,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def error_of(address: str, status: int, headers: Mapping[str, str], body: bytes) -> SuperposError:
    """Return the error of an answer whose status is not a success.

    A gateway's own answers have no problem; their code is the status in words.
    """
    problem = _problem(body)
    code, detail = str(problem.get("code") or _words(status)), str(problem.get("detail") or "")
    kind = f"{status} {code}"
    return _class_of(status)(
        f"{address} refused: {f'{detail} ({kind})' if detail else kind}",
        status=status,
        code=code,
        detail=detail,
        errors=_field_errors(problem),
        request_id=headers.get("X-Request-ID"),
        retry_after_s=_seconds(headers.get("Retry-After", "")),
        problem=problem,
    )


def task_error(address: str, problem: Mapping[str, Any], request_id: str | None) -> SuperposError:
    """Return the error of one task in an answer for several tasks."""
    status = int(problem.get("status", 500))
    return error_of(address, status, {"X-Request-ID": request_id or ""}, json.dumps(problem).encode())


def _class_of(status: int) -> type[SuperposError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 400:
        return InvalidAnswer
    return BadRequest if status < 500 else ServerFault


def _problem(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _field_errors(problem: Mapping[str, Any]) -> tuple[FieldError, ...]:
    listed = problem.get("errors")
    return tuple(
        FieldError(*(str(each.get(name, "")) for name in ("location", "message", "value")))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    )


def _words(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower().replace(" ", "_")
    except ValueError:
        return "unknown_status"


def _seconds(retry_after: str) -> float | None:
    """Return the seconds that `Retry-After` names, as a number or, from a gateway, as a date."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # absent, or a date without a zone
        return None
