"""`/feedback`: corrections of answers; `/tasks/{task}/feedback`: what is kept of a task, in pages and as a data set."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, Field

from adapters.names import NAME_PATTERN
from service.api.dependencies import ROWS_BODY, Limit, Publishing, Running, TaskPath, Tenant
from service.api.openapi import problems
from service.api.schemas.feedback import (
    ROW_ID_PATTERN,
    FeedbackDeletion,
    FeedbackList,
    FeedbackReceipt,
    FeedbackRequest,
    FeedbackState,
    Person,
    check_person,
)
from service.api.strict_route import StrictRoute
from service.errors import InvalidRequest
from service.feedback.models import View
from service.runtime import Runtime
from service.tenancy.models import AccountAction
from service.tenancy.principal import Principal

router = APIRouter(route_class=StrictRoute, tags=["feedback"])

JSON_LINES = "application/jsonl"
DATASET_VERSION = "X-Superpos-Dataset-Version"
"""Header of an export: the version of the task's corrections."""
_MAX_IDS = 100
_RowId = Annotated[str, Field(pattern=f"^{ROW_ID_PATTERN}$")]


@router.post("/feedback", status_code=201, dependencies=[ROWS_BODY], responses=problems(400, 404, 409, 413, 415, 503))
async def correct(body: FeedbackRequest, runtime: Running, tenant: Tenant) -> FeedbackReceipt:
    """Say which label is right.

    The tenant must have opted in to keeping texts (`retention_days`), or nothing is stored. A later correction of the
    same text replaces it. A request id that several requests used means the latest of them.
    """
    row = await runtime.feedback.feedback.correct(tenant, body.correction())
    return FeedbackReceipt.of(row, retention_s=runtime.feedback.retentions.require(tenant).seconds)


@router.get("/feedback", responses=problems(503))
async def summarize(runtime: Running, principal: Publishing) -> FeedbackState:
    """Return for how long the tenant keeps texts, and how many bytes they take."""
    return FeedbackState.of(await runtime.feedback.feedback.summary(principal.tenant))


@router.delete("/feedback", responses=problems(400, 409, 503))
async def delete(
    runtime: Running,
    principal: Publishing,
    ids: Annotated[
        Annotated[list[_RowId], Field(max_length=_MAX_IDS)] | None, Query(alias="id", description="these rows")
    ] = None,
    who: Annotated[
        Annotated[Person, AfterValidator(check_person)] | None, Query(description="all corrections by this person")
    ] = None,
    task: Annotated[
        Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")] | None, Query(description="only rows of this task")
    ] = None,
    everything: Annotated[
        bool, Query(alias="all", description="all rows, also those that no one has corrected")
    ] = False,
) -> FeedbackDeletion:
    """Delete rows for ever: by their ids, by a person, of a task, or all of them. Texts are overwritten in SQLite.

    A person may be combined with a task. Training jobs that have copies of corrections are cancelled. The deletion is
    in the audit log, without the person's name.
    """
    what = _deletion(ids=ids or (), who=who, task=task, everything=everything)
    if not ids:
        await _count(runtime, principal)
    deleted = await runtime.feedback.feedback.delete(principal.tenant, ids=ids or (), who=who, task=task)
    if deleted:
        await runtime.jobs.jobs.forget_corrections(principal.tenant)
    if not ids:
        await _record(runtime, principal, "feedback_deleted", f"{deleted} rows: {what}")
    return FeedbackDeletion(deleted=deleted)


@router.get("/tasks/{task}/feedback", responses=problems(404, 409, 503))
async def list_rows(
    task: TaskPath,
    runtime: Running,
    principal: Publishing,
    view: Annotated[
        View,
        Query(
            description="`least_confident`: answers, the lowest score first; `shadow_flips`: answers that a shadow "
            "version gave otherwise; `reported_wrong`: corrections of wrong answers; `corrections`: all of them"
        ),
    ] = "least_confident",
    cursor: Annotated[str | None, Query(max_length=100, description="`cursor` of the part before")] = None,
    limit: Limit = 100,
) -> FeedbackList:
    """List kept texts of a task, each once, in one of four orders: what to label first, and what was labelled."""
    page = await runtime.feedback.feedback.page(principal.tenant, task, view, cursor=cursor, limit=limit)
    return FeedbackList.of(page)


@router.get(
    "/tasks/{task}/feedback/export",
    responses={
        200: {
            "content": {JSON_LINES: {}},
            "headers": {DATASET_VERSION: {"schema": {"type": "integer"}, "description": "version of the corrections"}},
        },
        **problems(404, 409, 503),
    },
    response_class=StreamingResponse,
)
async def export(task: TaskPath, runtime: Running, principal: Publishing) -> StreamingResponse:
    """Return all corrections of a task as JSON Lines, the latest first, without the persons who gave them.

    A line has the texts by field in `input`, the right `label`, and the `answer`. Corrections that change during the
    export are left out of it. The export is in the audit log.
    """
    await _count(runtime, principal)
    version, lines = await runtime.feedback.feedback.export(principal.tenant, task)
    await _record(runtime, principal, "feedback_exported", f"task {task}, data set version {version}")
    name = f"{task}-corrections-{version}.jsonl"
    headers = {DATASET_VERSION: str(version), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=JSON_LINES, headers=headers)


def _deletion(*, ids: object, who: str | None, task: str | None, everything: bool) -> str:
    """Return in words what is deleted, without a person's name (`InvalidRequest` unless the request says it once)."""
    parts = {"by id": bool(ids), "by a person": who is not None, f"of task {task}": task is not None, "all": everything}
    given = [name for name, is_given in parts.items() if is_given]
    if not given or (len(given) > 1 and (ids or everything)):
        raise InvalidRequest(
            f"the request deletes {' and '.join(given) or 'nothing'}, expected one of: id (repeatable), who, task, who "
            "and task, or all=true"
        )
    return ", ".join(given)


async def _count(runtime: Runtime, principal: Principal) -> None:
    """Count what is audited as a change (`RateLimited`), so that it cannot fill the log; operators are not limited."""
    if principal.role != "operator":
        await runtime.tenancy.quotas.count_change(principal.tenant)


async def _record(runtime: Runtime, principal: Principal, action: AccountAction, detail: str) -> None:
    await asyncio.to_thread(
        runtime.tenancy.accounts.record,
        action,
        principal.tenant,
        actor=principal.actor,
        detail=detail,
        by=principal.role,
    )
