"""`POST /classify/{ref}`."""

import time

from fastapi import APIRouter, Request, Response

from adapters import Ref
from service.classifier import Stages
from service.disconnect import while_connected
from service.errors import InvalidRequest
from service.routes.common import JSON_BODY, Running, Tenant, problems
from service.schemas import ClassifyRequest, ClassifyResponse
from service.settings import Settings

router = APIRouter(tags=["classify"])


@router.post(
    "/classify/{ref}",
    dependencies=[JSON_BODY],
    responses=problems(400, 404, 409, 413, 415, 422, 429, 500, 503, 504),
)
async def classify(
    ref: str, body: ClassifyRequest, request: Request, response: Response, world: Running, tenant: Tenant
) -> ClassifyResponse:
    """Classify one or more inputs with the adapter that `ref` names.

    A ref is `task` (its production version), `task@3`, `task@alias` or `task@sha256:…`. Texts longer than the task's
    limit are an error unless `truncate` says which end to cut.
    """
    _check_size(body, world.settings)
    work = world.classifier.classify(
        tenant,
        Ref.parse(ref),
        body.inputs,
        truncation=body.truncate,
        top_k=body.top_k,
        timeout_s=(body.timeout_ms or world.settings.default_timeout_ms) / 1_000,
        sticky_key=body.sticky_key,
    )
    classification = await while_connected(request, work)
    response.headers["Server-Timing"] = _server_timing(classification.stages, since=request.state.received_at)
    return ClassifyResponse.of(classification, world.backbone.identity.id)


def _server_timing(stages: Stages, *, since: float) -> str:
    """W3C Server Timing, in milliseconds; `total` counts from the request's head to here."""
    durations_s = {
        "queue": stages.queue_s,
        "tokenize": stages.tokenize_s,
        "infer": stages.infer_s,
        "total": time.monotonic() - since,
    }
    return ", ".join(f"{stage};dur={1_000 * seconds:.2f}" for stage, seconds in durations_s.items())


def _check_size(body: ClassifyRequest, settings: Settings) -> None:
    if len(body.inputs) > settings.max_rows_per_request:
        raise InvalidRequest(f"inputs has {len(body.inputs)} items, expected at most {settings.max_rows_per_request}")
    if (body.timeout_ms or 0) > settings.max_timeout_ms:
        raise InvalidRequest(f"timeout_ms is {body.timeout_ms}, expected at most {settings.max_timeout_ms}")
