"""The class of every route: refuses whatever a request states that the route would not read.

That is an unknown query parameter or form field, an unknown `X-Superpos-…` header, a precondition, a body of a route
without one, a repeated name, a repeated key of a JSON object, and a multipart body without its end. What a route reads
is derived from its own parameters, so that a new route needs nothing for it.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from adapters import strict_json
from adapters.names import nearest
from adapters.strict_json import AmbiguousJson, LargeJson
from service.api.dependencies import principal_of
from service.api.reflection import shortened
from service.api.request_body import FORM, ExpectedBody
from service.errors import InvalidRequest, MalformedBody, PreconditionFailed
from service.tenancy.principal import Principal

OWN_HEADERS = "x-superpos-"
"""Prefix of this server's own request headers. Other unknown headers belong to browsers, proxies and other servers."""
_WRITE_GUARDS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_READ_GUARDS = ("If-Match", "If-Unmodified-Since")
"""`If-None-Match` of a read only saves a body: to ignore it is right."""
_MAX_FAULTS = 20
"""Number of unknown names that are looked at: each costs a search for the nearest known one."""
_INLINE_BYTES = 32_768
"""Largest body parsed on the event loop, where it takes at most some milliseconds."""
_MIN_ITEMS = 1_024
_VALUES_PER_ROW = 32
"""A row is one text per field (at most 16), their names or indices, and their arrays."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
Check = Callable[[Request], Awaitable[object]]
"""Raises an error to refuse a request."""


class StrictRoute(APIRoute):
    """A route that refuses what it does not read.

    Key, role, media type, size and names are checked before the first byte of the body is read, since the framework
    reads and parses the body before it calls a dependency. It gets only
    the dependencies that have parameters or read a form, since it resolves each of them on every request.
    """

    needs_key = True

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, dependencies: Sequence[Any] | None = None, **options: Any
    ) -> None:
        expected = [each for each in dependencies or () if isinstance(each.dependency, ExpectedBody)]
        # the role comes first: a caller without it learns nothing about the rest of its request
        checks = [*_roles_of(endpoint), *(each.dependency for each in expected)]
        self._checks: list[Check] = [principal_of, *checks] if self.needs_key else checks
        solved = [each for each in dependencies or () if each not in expected]
        if any(each.dependency.media_type == FORM for each in expected):
            solved.append(Depends(_check_form))
        super().__init__(path, endpoint, dependencies=solved, **options)
        self.declared = Declared.of(self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which admits the request first, and reads bodies by `StrictRequest`."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            for check in self._checks:
                await check(request)
            _check_names(request, self.declared)
            try:
                return await handle(self.request_of(request))
            except HTTPException as exc:
                # the framework's frame has the exception, which has the frame: a cycle that would leave the request,
                # and its connection, to the garbage collector
                traceback.clear_frames(exc.__traceback__)
                raise

        return handle_strictly

    def request_of(self, request: Request) -> "StrictRequest":
        """Return the request as this route reads it."""
        return StrictRequest(request.scope, request.receive)


class OpenRoute(StrictRoute):
    """A route for callers without a key."""

    needs_key = False


class StrictRequest(Request):
    """A request whose body is complete and unambiguous, or raises `MalformedBody`."""

    async def json(self) -> Any:
        """Return the JSON body (RFC 8259); each key of an object may occur once."""
        body = await self.body()
        rows = self.app.state.runtime.settings.max_rows_per_request
        try:
            if len(body) <= _INLINE_BYTES:
                return self.parse(body, rows)
            return await asyncio.to_thread(self.parse, body, rows)
        except LargeJson as exc:
            raise InvalidRequest(str(exc)) from exc
        except AmbiguousJson as exc:
            raise MalformedBody(str(exc)) from exc

    def parse(self, body: bytes, max_rows: int) -> Any:
        """Return the value of a JSON body. A thread calls this for a large one.

        Args:
            body: as it was sent, after decompression
            max_rows: rows that a request may have

        Raises:
            AmbiguousJson, LargeJson, RecursionError, ValueError: it is not JSON, or has too many values
        """
        return read_json(body, max_rows)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body's chunks; a multipart body must have its closing boundary."""
        media_type, options = parse_options_header(self.headers.get("Content-Type"))
        boundary = options.get(b"boundary")
        end = _MultipartEnd(boundary) if media_type == FORM.encode() and boundary else None
        async for chunk in super().stream():
            if end is not None:
                end.feed(chunk)
            yield chunk
        if end is not None:
            end.check()


def max_items(max_rows: int) -> int:
    """Return how many items an array of a request may have before its route looks at it."""
    return max(_MIN_ITEMS, 2 * max_rows)


def max_values(max_rows: int) -> int:
    """Return how many values all arrays and objects of a request may have together."""
    return _MIN_ITEMS + _VALUES_PER_ROW * max_rows


def read_json(body: bytes, max_rows: int) -> Any:
    """Return the value of a JSON body (`StrictRequest.parse`)."""
    items, values = max_items(max_rows), max_values(max_rows)
    strict_json.check_count(body, max_values=values)
    value = strict_json.loads(body)
    try:
        strict_json.check_size(value, max_items=items, max_values=values)
    except LargeJson as exc:
        refusal = str(exc)
    else:
        return value
    del value  # otherwise the error's traceback keeps it alive until the collector runs: 22 MB per MB of body
    raise LargeJson(refusal)


@dataclass(frozen=True, slots=True)
class Declared:
    """The names that a route reads, by where they stand. The value says whether a name may be repeated."""

    query: Mapping[str, bool]
    form: Mapping[str, bool]
    headers: frozenset[str]
    members: frozenset[str]
    """The members of its JSON body."""
    has_body: bool

    @classmethod
    def of(cls, route: APIRoute) -> "Declared":
        """Derive them from the route's parameters and those of its dependencies."""
        parts = _with_dependencies(route.dependant)
        query = [each for part in parts for each in part.query_params]
        body = [each for part in parts for each in part.body_params]
        form = [each for each in body if isinstance(each.field_info, Form)]
        models = [each.field_info.annotation for each in body if each not in form]
        return cls(
            query={each.alias: _takes_several(each.field_info.annotation) for each in query},
            form={each.alias: _takes_several(each.field_info.annotation) for each in form},
            headers=frozenset(each.alias.lower().replace("_", "-") for part in parts for each in part.header_params),
            members=frozenset(
                name
                for model in models
                if isinstance(model, type) and issubclass(model, BaseModel)
                for name in model.model_fields
            ),
            has_body=bool(body),
        )


def _check_names(request: Request, declared: Declared) -> None:
    """Refuse what the matched route does not read, apart from the fields of a form.

    Raises:
        RequestValidationError: unknown or repeated names
        PreconditionFailed: a precondition that the route does not evaluate
        InvalidRequest: a body that the route does not read
    """
    errors = _faults("query", "query parameter", request.query_params.multi_items(), declared.query, declared.members)
    own = [(name, value) for name, value in request.headers.items() if name.startswith(OWN_HEADERS)]
    read = {name: False for name in declared.headers if name.startswith(OWN_HEADERS)}
    errors += _faults("header", "header", own, read)
    if errors:
        raise RequestValidationError(errors)
    _check_guards(request, declared.headers)
    if not declared.has_body and ("transfer-encoding" in request.headers or _length(request) > 0):
        where = f"{request.method} {shortened(request.scope['path'])}"
        raise InvalidRequest(f"{where} has a body, which this route does not read")


async def _check_form(request: Request) -> None:
    """Refuse unknown or repeated fields of a form (`RequestValidationError`)."""
    declared: Declared = request.scope["route"].declared
    fields = [(name, _shown(value)) for name, value in (await request.form()).multi_items()]
    if errors := _faults("body", "form field", fields, declared.form):
        raise RequestValidationError(errors)


def _check_guards(request: Request, read: frozenset[str]) -> None:
    is_read, where = request.method in _SAFE, f"{request.method} {shortened(request.scope['path'])}"
    for name in _READ_GUARDS if is_read else _WRITE_GUARDS:
        given = request.headers.get(name)
        # If-Match takes precedence over a date (RFC 9110, section 13.2.2)
        superseded = name == "If-Unmodified-Since" and "if-match" in read and "If-Match" in request.headers
        if given is not None and name.lower() not in read and not superseded:
            instead = "If-None-Match" if is_read else _alternative(read)
            raise PreconditionFailed(f"{name} is {given!r}, which {where} does not evaluate; {instead}")


def _alternative(read: frozenset[str]) -> str:
    evaluated = [name for name in _WRITE_GUARDS if name.lower() in read]
    if evaluated:
        return f"expected {' or '.join(evaluated)}"
    return "send it without the header, or guard the alias: PUT /tasks/<task>/aliases/<alias> evaluates If-Match"


def _faults(
    place: str,
    kind: str,
    given: Sequence[tuple[str, str]],
    known: Mapping[str, bool],
    members: frozenset[str] = frozenset(),
) -> list[dict[str, object]]:
    """Return an error in pydantic's form for each name that is unknown, or repeated where one value is read."""
    errors: list[dict[str, object]] = []
    counts = Counter(name for name, _ in given)
    for name, value in dict(given).items():
        if len(errors) == _MAX_FAULTS:
            break
        if name not in known:
            message = f"unknown {kind}{_hint(name, known, members)}"
        elif counts[name] > 1 and not known[name]:
            message = f"{kind} given {counts[name]} times, expected once"
        else:
            continue
        errors.append({"type": "unknown_name", "loc": (place, name), "msg": message, "input": value})
    return errors


def _hint(name: str, known: Mapping[str, bool], members: frozenset[str]) -> str:
    meant = nearest(name, known)
    if meant is not None:
        return f", did you mean {meant!r}?"
    if name in members:
        return f"; {name!r} is a member of the JSON body"
    return f"; expected {', '.join(sorted(known))}" if known else "; this route reads none"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else "a file"


def _length(request: Request) -> int:
    declared = request.headers.get("Content-Length", "0")
    return int(declared) if declared.isdecimal() else 0


def _with_dependencies(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(each for part in dependant.dependencies for each in _with_dependencies(part))]


def _roles_of(endpoint: Callable[..., Any]) -> list[Check]:
    """Return the functions that check a role, among the dependencies of the endpoint's parameters."""
    hints = get_type_hints(endpoint, include_extras=True).values()
    return [
        mark.dependency
        for hint in hints
        for mark in getattr(hint, "__metadata__", ())
        if get_origin(hint) is Annotated and hint.__origin__ is Principal
    ]


def _takes_several(annotation: object) -> bool:
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        return any(map(_takes_several, get_args(annotation)))
    return origin is list


class _MultipartEnd:
    """Looks for a body's closing boundary, chunk by chunk."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._tail = b"\r\n"  # the first delimiter needs no line before it
        self._is_closed = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk (`MalformedBody` if a part follows the closing boundary)."""
        window = self._tail + chunk
        if not self._is_closed:
            place = window.find(self._delimiter + b"--")
            if place >= 0:
                self._is_closed = True
                window = window[place + len(self._delimiter) + 2 :]
        if self._is_closed and self._delimiter in window:
            raise MalformedBody("the multipart body continues after its closing boundary")
        self._tail = window[-len(self._delimiter) - 1 :]

    def check(self) -> None:
        """Raise `MalformedBody` unless the closing boundary was there."""
        if not self._is_closed:
            raise MalformedBody(
                f"the multipart body is truncated: it has no closing boundary {self._delimiter[2:].decode('latin-1')}--"
            )
