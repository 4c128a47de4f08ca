"""`/tasks/{task}/traffic`, `…/rollback`, `…/promote`: which version serves a bare task name."""

from fastapi import APIRouter, Response

from adapters import NO_TRAFFIC
from service.api.dependencies import CACHED, JSON_BODY, Conditions, Publishing, Running, TaskPath, Tenant
from service.api.openapi import not_modified, problems
from service.api.schemas.rollouts import MoveBody, PromoteRequest, PromotionBody, RollbackRequest, TrafficBody
from service.api.strict_route import StrictRoute
from service.releases.preconditions import traffic_tag

router = APIRouter(route_class=StrictRoute, prefix="/tasks/{task}", tags=["rollouts"])


@router.get("/traffic", dependencies=[CACHED], responses={**not_modified(), **problems(404)})
async def read_traffic(task: TaskPath, runtime: Running, tenant: Tenant, response: Response) -> TrafficBody:
    """Return the task's canary and shadow, if any; the entity tag is for `If-Match` of a write."""
    traffic = runtime.registry.catalog.task(tenant, task).traffic
    response.headers["ETag"] = traffic_tag(traffic)
    return TrafficBody.model_validate(traffic)


@router.put("/traffic", dependencies=[JSON_BODY], responses=problems(400, 404, 413, 415, 422, 503))
async def set_traffic(
    task: TaskPath,
    body: TrafficBody,
    runtime: Running,
    principal: Publishing,
    conditions: Conditions,
    response: Response,
) -> TrafficBody:
    """Send a share of the bare name's requests to a canary version, or all of its rows to a shadow version as well.

    Omitted fields are turned off. The `sticky_key` decides which requests go to the canary; without one, chance does.
    `If-Match` requires that the traffic has this entity tag.
    """
    traffic = body.traffic()
    await runtime.releases.rollouts.set_traffic(
        principal.tenant, task, traffic, conditions=conditions, actor=principal.actor
    )
    response.headers["ETag"] = traffic_tag(traffic)
    return body


@router.delete("/traffic", status_code=204, responses=problems(404, 503))
async def end_traffic(task: TaskPath, runtime: Running, principal: Publishing, conditions: Conditions) -> None:
    """End canary and shadow: only production serves the task. `If-Match` is as for a change of the traffic."""
    await runtime.releases.rollouts.set_traffic(
        principal.tenant, task, NO_TRAFFIC, conditions=conditions, actor=principal.actor
    )


@router.post("/rollback", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 422, 503))
async def roll_back(
    task: TaskPath, body: RollbackRequest, runtime: Running, principal: Publishing, conditions: Conditions
) -> MoveBody:
    """Point `production`, or another alias, back to its previous version.

    Rolling back production also ends a canary, but not a shadow. This server serves the previous version at once.
    `If-Match` requires that the alias has this entity tag.
    """
    move = await runtime.releases.rollouts.roll_back(
        principal.tenant, task, body.alias, expected=body.expected, conditions=conditions, actor=principal.actor
    )
    return MoveBody(task=task, alias=move.alias, previous=move.previous, version=move.version)


@router.post("/promote", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 422, 500, 503, 504))
async def promote(
    task: TaskPath, body: PromoteRequest, runtime: Running, principal: Publishing, conditions: Conditions
) -> PromotionBody:
    """Point `production` at a version whose metric is at least as good as that of the current one.

    Otherwise, or if the metric is missing, the error is `promotion_refused` with the metric's name and both values,
    unless `force` is true. With `corrections`, the version must also answer the task's corrections better, `force` or
    not. The promoted version stops being canary or shadow.
    `If-Match` requires that `production` has this entity tag.
    """
    done = await runtime.releases.rollouts.promote(
        principal.tenant,
        task,
        body.version,
        metric=body.metric,
        force=body.force,
        expected=body.expected,
        conditions=conditions,
        actor=principal.actor,
        corrections=body.corrections,
    )
    return PromotionBody.of(task, done)
