"""`/tasks/{task}/traffic`, `…/rollback`, `…/promote`: which version a bare task name means."""

from fastapi import APIRouter

from adapters import NO_TRAFFIC
from service.api.dependencies import JSON_BODY, Publishing, Running, TaskPath, Tenant
from service.api.openapi import problems
from service.api.schemas.rollouts import MoveBody, PromoteRequest, PromotionBody, RollbackRequest, TrafficBody

router = APIRouter(prefix="/tasks/{task}", tags=["rollouts"])


@router.get("/traffic", responses=problems(404))
async def read_traffic(task: TaskPath, runtime: Running, tenant: Tenant) -> TrafficBody:
    """The task's canary and shadow, where it has any."""
    return TrafficBody.model_validate(runtime.registry.catalog.task(tenant, task).traffic)


@router.put("/traffic", dependencies=[JSON_BODY], responses=problems(400, 404, 413, 415, 422, 503))
async def set_traffic(task: TaskPath, body: TrafficBody, runtime: Running, principal: Publishing) -> TrafficBody:
    """Give part of the bare name's requests to a canary version, or have a shadow version compute the same rows.

    What is left out is off. A request's part is told by its `sticky_key`, or by lot without one.
    """
    await runtime.releases.rollouts.set_traffic(principal.tenant, task, body.traffic(), actor=principal.actor)
    return body


@router.delete("/traffic", status_code=204, responses=problems(404, 503))
async def end_traffic(task: TaskPath, runtime: Running, principal: Publishing) -> None:
    """End canary and shadow: production answers alone."""
    await runtime.releases.rollouts.set_traffic(principal.tenant, task, NO_TRAFFIC, actor=principal.actor)


@router.post("/rollback", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 422, 503))
async def roll_back(task: TaskPath, body: RollbackRequest, runtime: Running, principal: Publishing) -> MoveBody:
    """Point `production`, or another alias, back to the version that it pointed at before.

    Rolling back production ends a canary too; a shadow stays. Once answered, this server answers by the old version.
    """
    move = await runtime.releases.rollouts.roll_back(
        principal.tenant, task, body.alias, expected=body.expected, actor=principal.actor
    )
    return MoveBody(task=task, alias=move.alias, previous=move.previous, version=move.version)


@router.post("/promote", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 422, 503))
async def promote(task: TaskPath, body: PromoteRequest, runtime: Running, principal: Publishing) -> PromotionBody:
    """Point `production` at a version whose card is no worse than the present one's.

    Refused (`promotion_refused`, with the figure's name and both values) where it is worse, or has no such figure,
    unless forced. The version is canary or shadow no more.
    """
    done = await runtime.releases.rollouts.promote(
        principal.tenant, task, body.version, metric=body.metric, force=body.force, actor=principal.actor
    )
    return PromotionBody.of(task, done)
