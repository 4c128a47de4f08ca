"""Answers as JSON, written in pieces of bounded size: the same bytes as pydantic writes in one call."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import to_json

from service.pieces import PIECE_VALUES

Body = BaseModel | Sequence[object]
_Plain = str | int | float


async def json_response(body: Body, response: Response, *, exclude_none: bool = False) -> Response:
    """Return the response with this body, and with the headers of the response that FastAPI injected.

    Other tasks of the event loop run between two pieces of a large body.

    Args:
        body: a model or a list, as the route's `response_model` describes it
        response: has the headers that the route has set
        exclude_none: leave out members that are null, as `response_model_exclude_none`
    """
    return response_of(await json_bytes(body, exclude_none=exclude_none), response, media_type="application/json")


def response_of(content: bytes, response: Response, *, media_type: str) -> Response:
    """Return the response with this content, and with the headers of the response that FastAPI injected."""
    made = Response(content, media_type=media_type)
    made.headers.raw.extend(response.headers.raw)
    return made


async def json_bytes(body: Body, *, exclude_none: bool = False) -> bytes:
    """Return a body as JSON; other tasks of the event loop run between two pieces of a large one."""
    written: list[bytes] = []
    for piece in json_pieces(body, exclude_none=exclude_none):
        if written:
            await asyncio.sleep(0)
        written.append(piece)
    return b"".join(written)


def json_pieces(body: object, *, exclude_none: bool = False) -> Iterator[bytes]:
    """Yield the JSON of a body. A piece has at most `PIECE_VALUES` values, unless a single dataclass has more."""
    if num_values(body) <= PIECE_VALUES:
        yield _json(body, exclude_none=exclude_none)
    elif isinstance(body, BaseModel):
        opening = b"{"
        for name, member in body:
            if member is None and exclude_none:
                continue
            yield opening + to_json(name) + b":"
            yield from json_pieces(member, exclude_none=exclude_none)
            opening = b","
        yield b"}"
    elif isinstance(body, list | tuple):
        yield from _list_pieces(body, exclude_none=exclude_none)
    else:
        yield _json(body, exclude_none=exclude_none)


def _list_pieces(items: Sequence[object], *, exclude_none: bool) -> Iterator[bytes]:
    opening, start = b"[", 0
    while start < len(items):
        end, values = start, 0
        while end < len(items) and (more := num_values(items[end])) + values <= PIECE_VALUES:
            values += more
            end += 1
        yield opening
        if end > start:
            yield _json(items[start:end], exclude_none=exclude_none)[1:-1]
        else:
            end += 1
            yield from json_pieces(items[start], exclude_none=exclude_none)
        opening, start = b",", end
    yield b"]"


def num_values(value: object) -> int:
    """Count the values of a body. Members of lists and mappings are looked into only where the first has members."""
    if value is None or isinstance(value, _Plain):
        return 1  # most are: the checks below take longer
    members: Iterable[object] = ()
    if isinstance(value, BaseModel):
        members = (member for _, member in value)
    elif is_dataclass(value):
        members = (getattr(value, member.name) for member in fields(value))
    elif isinstance(value, Mapping):
        return 1 + len(value)
    elif isinstance(value, list | tuple):
        if value and isinstance(value[0], _Plain):
            return 1 + len(value)
        members = value
    return 1 + sum(map(num_values, members))


def _json(value: object, *, exclude_none: bool) -> bytes:
    return to_json(value, exclude_none=exclude_none, inf_nan_mode="null")
