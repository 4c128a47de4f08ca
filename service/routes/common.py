"""What handlers share: the world, the tenant, and the media types that a body may have."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from service.caller import Caller, Role
from service.errors import NotReady, UnsupportedMediaType
from service.gate import API_KEY, VISIT, Visit
from service.preconditions import Preconditions
from service.schemas import ProblemBody
from service.world import World

# dependencies are coroutines: FastAPI would run each plain function in a thread of its own, at 0.1 ms a hop


async def world_of(request: Request) -> World:
    """The parts of the running server."""
    return cast(World, request.app.state.world)


async def caller_of(request: Request) -> Caller:
    """Who asks (`Unauthenticated`); a server without keys takes everybody for its one tenant."""
    return await cast(Visit, getattr(request.state, VISIT)).enter()


def requires(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, refused without the role (`Unauthenticated`, `Forbidden`)."""

    async def check(request: Request) -> Caller:
        caller = await caller_of(request)
        caller.require(role)
        return caller

    return check


KEY_SCHEMES = [
    # for the documentation: the gate reads both
    Security(HTTPBearer(auto_error=False, description="a key: `sp_<id>_<secret>`")),
    Security(APIKeyHeader(name=API_KEY, auto_error=False, description="the same key")),
]


async def tenant_of(request: Request) -> str:
    """Whose tasks the caller may use."""
    return (await caller_of(request)).tenant


Running = Annotated[World, Depends(world_of)]
Tenant = Annotated[str, Depends(tenant_of)]
Publishing = Annotated[Caller, Depends(requires("publish"))]
Administering = Annotated[Caller, Depends(requires("admin"))]


_TAGS = "entity tags with commas between them, or *"
IfMatch = Annotated[str | SkipJsonSchema[None], Header(description=_TAGS)]
IfNoneMatch = Annotated[str | SkipJsonSchema[None], Header(description=_TAGS)]


async def conditions_of(if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> Preconditions:
    """What a write asks of the present state."""
    return Preconditions(if_match, if_none_match)


async def known_tag(if_none_match: IfNoneMatch = None) -> None:
    """A reader's tags, for the documentation: `NotModified` reads them."""


Conditions = Annotated[Preconditions, Depends(conditions_of)]
CACHED = Depends(known_tag)


def media_type(expected: str, *, or_none: bool = False) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses a body of any other type (`UnsupportedMediaType`)."""

    async def check(request: Request) -> None:
        given = request.headers.get("Content-Type", "")
        if not (or_none and not given) and given.partition(";")[0].strip().lower() != expected:
            raise UnsupportedMediaType(f"Content-Type is {given!r}, expected {expected!r}")

    return check


JSON_BODY = Depends(media_type("application/json"))
MULTIPART_BODY = Depends(media_type("multipart/form-data"))


def require_ready(world: World) -> None:
    """Refuse what only a server that can answer may say (`NotReady`)."""
    reason = world.engine.stats().not_ready
    if reason is not None:
        raise NotReady(reason)


def not_modified() -> dict[int | str, Any]:
    """OpenAPI's description of a read that may be answered without a body."""
    return {304: {"description": HTTPStatus.NOT_MODIFIED.phrase}}


def errors(body: type[BaseModel], *statuses: int, media_type: str = "application/json") -> dict[int | str, Any]:
    """OpenAPI's description of a route's errors."""
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    return {
        status: {"model": body, "description": HTTPStatus(status).phrase, "content": content} for status in statuses
    }


def problems(*statuses: int) -> dict[int | str, Any]:
    """The same of a native route."""
    return errors(ProblemBody, *statuses, media_type="application/problem+json")
