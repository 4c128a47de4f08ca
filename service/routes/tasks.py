"""`/tasks`: what is there, uploads, aliases."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from adapters import PRODUCTION, NotFound, Ref
from adapters.files import from_files
from service.routes.common import JSON_BODY, MULTIPART_BODY, Publishing, Running, Tenant, problems
from service.schemas import (
    AdapterBody,
    AliasBody,
    AliasRequest,
    FileList,
    PublishResponse,
    TaskDetail,
    TaskList,
    TaskSummary,
)
from service.uploads import read_uploads

router = APIRouter(prefix="/tasks", tags=["tasks"])


@router.get("")
async def list_tasks(world: Running, tenant: Tenant) -> TaskList:
    """Every task with its versions and aliases."""
    return TaskList(tasks=[TaskSummary.of(info) for info in world.catalog.tasks(tenant)])


@router.get("/{task}", responses=problems(404))
async def describe_task(task: str, world: Running, tenant: Tenant) -> TaskDetail:
    """One task, with what its current version is made of."""
    info = world.catalog.task(tenant, task)
    version = info.aliases.get(PRODUCTION)
    current = None if version is None else await _describe(world, tenant, Ref(task, version=version))
    return TaskDetail(**TaskSummary.of(info).model_dump(), current=current)


@router.post(
    "/{task}/versions",
    status_code=201,
    dependencies=[MULTIPART_BODY],
    responses={200: {"model": PublishResponse}, **problems(400, 413, 415, 422, 429, 503)},
)
async def publish_version(
    task: str,
    files: Annotated[list[UploadFile], File(description="the adapter's files, each under its own file name")],
    response: Response,
    world: Running,
    caller: Publishing,
    alias: Annotated[list[str] | None, Form(description="aliases to point at the new version")] = None,
) -> PublishResponse:
    """Upload an adapter as the task's next version: 201, or 200 where the task has this very adapter already.

    `production` moves to a new version unless `alias` names others, which move to it new or known; one empty `alias`
    moves none.
    """
    aliases = None if alias is None else [name for name in alias if name]
    publication = await world.publisher.publish(
        caller.tenant, task, await read_uploads(files), aliases=aliases, actor=caller.actor
    )
    response.status_code = 201 if publication.created else 200
    return PublishResponse(
        task=task, version=publication.version, adapter=publication.digest, created=publication.created
    )


@router.get("/{task}/versions/{version}", responses=problems(404, 409))
async def describe_version(task: str, version: int, world: Running, tenant: Tenant) -> AdapterBody:
    """What a version is made of."""
    return await _describe(world, tenant, Ref(task, version=version))


@router.get("/{task}/versions/{version}/files", responses=problems(404, 503))
async def list_files(task: str, version: int, world: Running, tenant: Tenant) -> FileList:
    """The names of a version's files."""
    return FileList(files=sorted(await _files(world, tenant, task, version)))


@router.get("/{task}/versions/{version}/files/{name}", responses=problems(404, 503), response_class=Response)
async def read_file(task: str, version: int, name: str, world: Running, tenant: Tenant) -> Response:
    """One of a version's files, byte for byte."""
    files = await _files(world, tenant, task, version)
    if name not in files:
        raise NotFound(f"no file {name!r}, the version has {', '.join(sorted(files))}")
    return Response(files[name], media_type="application/octet-stream")


@router.delete("/{task}/versions/{version}", status_code=204, responses=problems(404, 409, 503))
async def delete_version(task: str, version: int, world: Running, caller: Publishing) -> None:
    """Remove a version that no alias points at. Its number is never given again."""
    await asyncio.to_thread(world.registry.delete, caller.tenant, task, version, actor=caller.actor)
    await world.follower.refresh()


@router.put("/{task}/aliases/{alias}", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 415, 422, 503))
async def set_alias(task: str, alias: str, body: AliasRequest, world: Running, caller: Publishing) -> AliasBody:
    """Point an alias at a version; with `expected`, only if it points there now."""
    await asyncio.to_thread(
        world.registry.set_alias, caller.tenant, task, alias, body.version, actor=caller.actor, expected=body.expected
    )
    await world.follower.refresh()
    return AliasBody(task=task, alias=alias, version=body.version)


@router.delete("/{task}/aliases/{alias}", status_code=204, responses=problems(404, 503))
async def delete_alias(task: str, alias: str, world: Running, caller: Publishing) -> None:
    """Remove an alias."""
    await asyncio.to_thread(world.registry.delete_alias, caller.tenant, task, alias, actor=caller.actor)
    await world.follower.refresh()


async def _describe(world: Running, tenant: str, ref: Ref) -> AdapterBody:
    resolution = world.catalog.resolve(tenant, ref)
    files = await asyncio.to_thread(world.registry.get, resolution.digest)
    return AdapterBody.of(resolution.version, await asyncio.to_thread(from_files, files))


async def _files(world: Running, tenant: str, task: str, version: int) -> dict[str, bytes]:
    resolution = world.catalog.resolve(tenant, Ref(task, version=version))
    return await asyncio.to_thread(world.registry.get, resolution.digest)
