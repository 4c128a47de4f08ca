"""`/tasks`: tasks, versions, uploads, aliases."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from adapters import PRODUCTION, InvalidAdapter, NotFound, Ref, Resolution
from adapters.files import from_files
from adapters.names import NAME_PATTERN
from adapters.registry.log_reading import task_log
from service.api.dependencies import (
    CACHED,
    JSON_BODY,
    MULTIPART_BODY,
    AliasField,
    AliasPath,
    Conditions,
    Digest,
    FilePath,
    Limit,
    Publishing,
    Running,
    Since,
    TaskPath,
    Tenant,
    VersionPath,
)
from service.api.json_response import json_response
from service.api.logs import change_log, search
from service.api.openapi import not_modified, problems
from service.api.schemas.tasks import (
    AdapterBody,
    AliasBody,
    AliasRequest,
    ChangeLog,
    FileList,
    PublishResponse,
    TaskDetail,
    TaskList,
    TaskSummary,
)
from service.api.strict_route import StrictRoute
from service.monitoring.drift import DriftReport
from service.monitoring.shadow_report import SHADOW, reports
from service.pieces import map_in_pieces
from service.releases.preconditions import alias_tag, version_tag
from service.runtime import Runtime

router = APIRouter(route_class=StrictRoute, prefix="/tasks", tags=["tasks"])

FILE_TYPE = "application/octet-stream"
_SUMMARY_VALUES = 64
"""Values of a task in the list, about that of six versions."""


@router.get("", response_model=TaskList)
async def list_tasks(
    runtime: Running,
    tenant: Tenant,
    response: Response,
    q: Annotated[str, Query(max_length=64, description="only tasks whose names contain this text")] = "",
    cursor: Annotated[
        str | SkipJsonSchema[None],
        Query(pattern=f"^{NAME_PATTERN}$", description="`cursor` of the part before", examples=["sst2"]),
    ] = None,
    limit: Annotated[
        Annotated[int, Field(ge=1, le=1_000)] | SkipJsonSchema[None],
        Query(description="maximum number of tasks; by default all"),
    ] = None,
) -> Response:
    """List tasks with their versions and aliases, in the order of their names: all, or a part."""
    catalog = runtime.registry.catalog
    found = catalog.tasks(tenant, containing=q, after=cursor or "", limit=None if limit is None else limit + 1)
    tasks = found[:limit]
    total = catalog.num_tasks(tenant, containing=q)
    summaries = await map_in_pieces(TaskSummary.model_validate, tasks, values_each=_SUMMARY_VALUES)
    page = TaskList(tasks=summaries, total=total, cursor=tasks[-1].task if len(tasks) < len(found) else None)
    return await json_response(page, response)


@router.get("/{task}", responses=problems(404, 503))
async def describe_task(task: TaskPath, runtime: Running, tenant: Tenant) -> TaskDetail:
    """Describe a task: its production version, drift of the answers, and how a shadow's answers differ."""
    info = runtime.registry.catalog.task(tenant, task)
    version = info.aliases.get(PRODUCTION)
    current = None if version is None else await _describe(runtime, tenant, Ref(task, version=version))
    counts = await runtime.monitoring.counters.read(SHADOW, tenant, task)
    shadows = reports(counts, [version.version for version in info.versions])
    drift = None if current is None else await _drift(runtime, tenant, task, current)
    return TaskDetail(**dict(TaskSummary.model_validate(info)), current=current, drift=drift, shadows=shadows)


@router.get("/{task}/history", responses=problems(404, 503), response_model=ChangeLog)
async def read_history(
    task: TaskPath,
    runtime: Running,
    principal: Publishing,
    response: Response,
    since: Since = 0,
    limit: Limit = 100,
) -> Response:
    """Read the task's log: who changed versions, aliases and traffic, and when. The task must have a version."""
    runtime.registry.catalog.task(principal.tenant, task)
    store, tenant = runtime.registry.store, principal.tenant
    part = await search(runtime, lambda pause: task_log(store, tenant, task, since=since, limit=limit, pause=pause))
    return await json_response(await change_log(part), response)


@router.post(
    "/{task}/versions",
    status_code=201,
    dependencies=[MULTIPART_BODY],
    responses={200: {"model": PublishResponse}, **problems(400, 409, 413, 415, 422, 429, 503)},
)
async def publish_version(
    task: TaskPath,
    files: Annotated[list[UploadFile], File(min_length=1, description="the adapter's files under their own names")],
    response: Response,
    runtime: Running,
    principal: Publishing,
    alias: Annotated[list[AliasField] | None, Form(description="aliases to point at the new version")] = None,
    sha256: Annotated[
        Annotated[list[Digest], Field(max_length=1)] | SkipJsonSchema[None],
        Form(description="expected digest of the adapter"),
    ] = None,
) -> PublishResponse:
    """Upload an adapter as the task's next version: 201, or 200 if the task already has this adapter.

    By default `production` moves to a new version. If `alias` is given, the named aliases move instead, also to a
    version that exists already; one empty `alias` moves none.
    """
    aliases = None if alias is None else [name for name in alias if name]
    expected = None if sha256 is None else sha256[0]  # a list: FastAPI treats an empty text as a missing field
    publication = await runtime.releases.publisher.publish(
        principal.tenant, task, await _read_uploads(files), aliases=aliases, expected=expected, actor=principal.actor
    )
    response.status_code = 201 if publication.created else 200
    return PublishResponse(
        task=task, version=publication.version, adapter=publication.digest, created=publication.created
    )


@router.get(
    "/{task}/versions/{version}", dependencies=[CACHED], responses={**not_modified(), **problems(404, 422, 503)}
)
async def describe_version(
    task: TaskPath, version: VersionPath, runtime: Running, tenant: Tenant, response: Response
) -> AdapterBody:
    """Describe a version; its entity tag is its digest."""
    described = await _describe(runtime, tenant, Ref(task, version=version))
    response.headers["ETag"] = version_tag(described.adapter)
    return described


@router.get("/{task}/versions/{version}/files", responses=problems(404, 503))
async def list_files(task: TaskPath, version: VersionPath, runtime: Running, tenant: Tenant) -> FileList:
    """List the names of a version's files."""
    _, files = await _read(runtime, tenant, Ref(task, version=version))
    return FileList(files=sorted(files))


@router.get(
    "/{task}/versions/{version}/files/{name}",
    dependencies=[CACHED],
    responses={200: {"content": {FILE_TYPE: {}}}, **not_modified(), **problems(404, 422, 503)},
    response_class=Response,
)
async def read_file(task: TaskPath, version: VersionPath, name: FilePath, runtime: Running, tenant: Tenant) -> Response:
    """Return one of a version's files, byte for byte; its entity tag is the version's digest."""
    resolution, files = await _read(runtime, tenant, Ref(task, version=version))
    if name not in files:
        raise NotFound(f"no file {name!r}; the version has {', '.join(sorted(files))}")
    return Response(files[name], media_type=FILE_TYPE, headers={"ETag": version_tag(resolution.digest)})


@router.delete("/{task}/versions/{version}", status_code=204, responses=problems(404, 409, 503))
async def delete_version(
    task: TaskPath, version: VersionPath, runtime: Running, principal: Publishing, conditions: Conditions
) -> None:
    """Delete a version that no alias points at. Its number is never reused.

    `If-Match` requires that its digest is one of these, as strong tags: `"sha256:…"`.
    """
    await runtime.releases.publisher.delete(
        principal.tenant, task, version, conditions=conditions, actor=principal.actor
    )


@router.get("/{task}/aliases/{alias}", dependencies=[CACHED], responses={**not_modified(), **problems(404, 422)})
async def read_alias(
    task: TaskPath, alias: AliasPath, runtime: Running, tenant: Tenant, response: Response
) -> AliasBody:
    """Read an alias; its entity tag is for `If-Match` of a write."""
    return _tagged(runtime.registry.catalog.resolve(tenant, Ref(task, alias=alias)), alias, response)


@router.put("/{task}/aliases/{alias}", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 422, 503))
async def set_alias(
    task: TaskPath,
    alias: AliasPath,
    body: AliasRequest,
    runtime: Running,
    principal: Publishing,
    conditions: Conditions,
    response: Response,
) -> AliasBody:
    """Point an alias at a version.

    `If-Match` requires that the alias has this entity tag, `If-None-Match: *` that it does not exist (otherwise 412).
    `expected` requires that it points at that version now (otherwise 409).
    """
    ref = Ref(task, alias=alias)
    resolution = await runtime.releases.aliases.move(
        principal.tenant, ref, body.version, expected=body.expected, conditions=conditions, actor=principal.actor
    )
    return _tagged(resolution, alias, response)


@router.delete("/{task}/aliases/{alias}", status_code=204, responses=problems(400, 404, 422, 503))
async def delete_alias(
    task: TaskPath, alias: AliasPath, runtime: Running, principal: Publishing, conditions: Conditions
) -> None:
    """Delete an alias; `If-Match` requires that it has this entity tag."""
    await runtime.releases.aliases.remove(
        principal.tenant, Ref(task, alias=alias), conditions=conditions, actor=principal.actor
    )


def _tagged(resolution: Resolution, alias: str, response: Response) -> AliasBody:
    response.headers["ETag"] = alias_tag(resolution)
    return AliasBody(task=resolution.task, alias=alias, version=resolution.version, adapter=resolution.digest)


async def _describe(runtime: Runtime, tenant: str, ref: Ref) -> AdapterBody:
    resolution, files = await _read(runtime, tenant, ref)
    return AdapterBody.of(resolution.version, await asyncio.to_thread(from_files, files))


async def _drift(runtime: Runtime, tenant: str, task: str, current: AdapterBody) -> DriftReport | None:
    if current.validation is None:
        return None
    return await runtime.monitoring.drift.report((tenant, task, current.version), current.validation)


async def _read(runtime: Runtime, tenant: str, ref: Ref) -> tuple[Resolution, dict[str, bytes]]:
    resolution = runtime.registry.catalog.resolve(tenant, ref)
    files = runtime.registry.store.files
    return resolution, await asyncio.to_thread(files, tenant, resolution.task, resolution.version)


async def _read_uploads(parts: Sequence[UploadFile]) -> dict[str, bytes]:
    """Read the uploaded files by name.

    Raises:
        InvalidAdapter: two files have the same name
    """
    files: dict[str, bytes] = {}
    for part in parts:
        name = part.filename or ""
        if name in files:
            raise InvalidAdapter("file name", f"{name!r} twice", "each file once")
        files[name] = await part.read()
    return files
