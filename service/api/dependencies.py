"""Dependencies and parameter types that route handlers share."""

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import Depends, Header, Path, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from adapters import NotFound
from adapters.names import ALIAS_PATTERN, DIGEST_PATTERN, NAME_PATTERN, REF_PATTERN
from service.api.middleware.authentication import SESSION, RequestSession
from service.api.request_body import FORM, ExpectedBody
from service.api.schemas.types import MAX_VERSION
from service.errors import InvalidRequest, NotReady
from service.releases.preconditions import Preconditions
from service.runtime import Runtime
from service.tenancy.principal import Principal, Role

# dependencies are coroutines: FastAPI would run each plain function in a thread, at 0.1 ms per call


async def runtime_of(request: Request) -> Runtime:
    """Return the server's components."""
    return cast(Runtime, request.app.state.runtime)


async def principal_of(request: Request) -> Principal:
    """Return the principal (`Unauthenticated`, `RateLimited`); without keys, `ANONYMOUS_OPERATOR`."""
    return await cast(RequestSession, getattr(request.state, SESSION)).open()


def requires(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    """Make a dependency that returns the principal if it has the role (`Unauthenticated`, `Forbidden`)."""

    async def check(request: Request) -> Principal:
        principal = await principal_of(request)
        principal.require(role)
        return principal

    return check


async def tenant_of(request: Request) -> str:
    """Return the tenant whose tasks the principal may use."""
    return (await principal_of(request)).tenant


async def administrator_of(request: Request) -> Principal:
    """Return the principal if it manages the tenant in the path, or any tenant if the path names none.

    Raises:
        Unauthenticated: no valid key
        Forbidden: the role is not `admin`
        NotFound: it is another tenant, which is reported as if it did not exist
    """
    principal = await principal_of(request)
    principal.require("admin")
    tenant = request.path_params.get("tenant")
    if tenant is not None and not principal.manages(tenant):
        raise NotFound(f"no tenant {tenant!r}")
    return principal


TASK_HEADER = "X-Superpos-Task"
"""The header of a request for a task, and of a response by one."""


async def default_task_of(
    request: Request,
    task: Annotated[
        str | SkipJsonSchema[None],
        Header(
            alias=TASK_HEADER,
            description="ref of the task; by default the key's default task, or else the server's",
            examples=["sst2"],
            json_schema_extra={"pattern": f"^{REF_PATTERN}$"},
        ),
    ] = None,
) -> str | None:
    """Return the ref for a request that names no task: of its header, or of its key, or of the server's settings."""
    if task is not None:
        return task
    principal, runtime = await principal_of(request), await runtime_of(request)
    return principal.default_task or runtime.settings.default_task


DefaultTask = Annotated[str | None, Depends(default_task_of)]


def require_task(default: str | None, *, place: str) -> str:
    """Return the default task of a request (`InvalidRequest` if there is none).

    Args:
        default: the `DefaultTask`
        place: where else the request could name its task
    """
    if default is None:
        raise InvalidRequest(
            f"no task: name it in {place} or in the header {TASK_HEADER}, or give the key a default task (superpos key "
            "update), or the server (SUPERPOS_DEFAULT_TASK)"
        )
    return default


def refuse_header(request: Request, *, place: str) -> None:
    """Refuse the header that names a task in a request that names its tasks elsewhere (`InvalidRequest`)."""
    if TASK_HEADER in request.headers:
        raise InvalidRequest(f"both {place} and the header {TASK_HEADER} name a task, expected one of them")


Running = Annotated[Runtime, Depends(runtime_of)]
Tenant = Annotated[str, Depends(tenant_of)]
Publishing = Annotated[Principal, Depends(requires("publish"))]
Administering = Annotated[Principal, Depends(administrator_of)]
Operating = Annotated[Principal, Depends(requires("operator"))]


_TAGS = "entity tags separated by commas, or *"
IfMatch = Annotated[str | SkipJsonSchema[None], Header(description=_TAGS)]
IfNoneMatch = Annotated[str | SkipJsonSchema[None], Header(description=_TAGS)]


async def conditions_of(if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> Preconditions:
    """Return the preconditions of a write."""
    return Preconditions(if_match, if_none_match)


async def known_tag(if_none_match: IfNoneMatch = None) -> None:
    """Document the header, which `ConditionalGetMiddleware` reads."""


Conditions = Annotated[Preconditions, Depends(conditions_of)]
CACHED = Depends(known_tag)


JSON_BODY = Depends(ExpectedBody("application/json"))
ROWS_BODY = Depends(ExpectedBody("application/json", "rows"))
JOB_BODY = Depends(ExpectedBody("application/json", "job"))
# Triton's clients state no media type, or that of the tensors
TENSORS_BODY = Depends(ExpectedBody("application/json", "rows", frozenset({"", "application/octet-stream"})))
MULTIPART_BODY = Depends(ExpectedBody(FORM, "upload"))


def require_ready(runtime: Runtime) -> None:
    """Raise `NotReady` if the server cannot answer now."""
    reason = runtime.inference.engine.stats().not_ready
    if reason is not None:
        raise NotReady(reason)


RefPath = Annotated[
    str,
    Path(
        description="`task` (the production version), `task@3`, `task@alias` or `task@sha256:…`",
        examples=["sst2"],
        json_schema_extra={"pattern": f"^{REF_PATTERN}$"},
    ),
]
TaskPath = Annotated[str, Path(examples=["sst2"], json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})]
AliasPath = Annotated[str, Path(examples=["canary"], json_schema_extra={"pattern": f"^{ALIAS_PATTERN}$"})]
VersionPath = Annotated[int, Path(ge=1, le=MAX_VERSION, examples=[1])]
Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]
AliasField = Annotated[str, Field(json_schema_extra={"pattern": f"^({ALIAS_PATTERN})?$"})]
"""An alias in a form; the empty text is one too: it means none."""
FilePath = Annotated[str, Path(examples=["superpos.json"])]

Since = Annotated[int, Query(ge=0, le=1 << 53, description="position in the log; only later entries are returned")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="maximum number of entries")]
