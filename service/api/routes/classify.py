"""`POST /classify/{ref}`, `POST /classify` for several refs in one request, and `GET /limits`."""

from fastapi import APIRouter, Request, Response

from adapters import Ref
from service.api.dependencies import ROWS_BODY, RefPath, Running, Tenant
from service.api.inference import inference_request, server_timing, while_connected
from service.api.json_response import json_response
from service.api.openapi import problems
from service.api.problems import problem_body, problem_of
from service.api.schemas.classify import (
    ClassifyRequest,
    ClassifyResponse,
    FanOutAnswer,
    FanOutRefusal,
    FanOutRequest,
    FanOutResponse,
    Limits,
)
from service.api.schemas.types import ProblemBody
from service.api.strict_route import StrictRoute
from service.errors import InvalidRequest
from service.inference.fan_out import Part, fan_out
from service.inference.request import InferenceRequest
from service.settings import Settings

router = APIRouter(route_class=StrictRoute, tags=["classify"])
_PROBLEMS = problems(400, 404, 409, 413, 415, 422, 429, 500, 503, 504)


@router.post("/classify/{ref}", dependencies=[ROWS_BODY], responses=_PROBLEMS, response_model=ClassifyResponse)
async def classify(
    ref: RefPath, body: ClassifyRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Classify one or more inputs with the adapter that `ref` names.

    A ref is `task` (the production version), `task@3`, `task@alias` or `task@sha256:…`. A text over the task's limit is
    an error unless `truncate` names the end to cut, and an empty one always is.
    """
    work = runtime.classifier.classify(Ref.parse(ref), _inference_request(runtime.settings, tenant, body))
    classification = await while_connected(request, work)
    response.headers["Server-Timing"] = server_timing([classification.stages], since=request.state.received_at)
    return await json_response(ClassifyResponse.of(classification, runtime.backbone.identity.id), response)


@router.post("/classify", dependencies=[ROWS_BODY], responses=_PROBLEMS, response_model=FanOutResponse)
async def classify_by_several(
    body: FanOutRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Classify the same inputs with several tasks, whose rows share the model's batches.

    Tasks without a prompt share more: a text that they render alike is encoded, and paid for, once. Results are in the
    order of `tasks`. The result of a task that fails is its `problem`. If every task fails, the response is the problem
    of the first.
    """
    inference = _inference_request(runtime.settings, tenant, body, num_tasks=len(body.tasks))
    _check_tasks(body, runtime.settings)
    parts = await while_connected(request, fan_out(runtime.classifier, body.tasks, inference))
    stages = [part.answer.stages for part in parts if part.answer is not None]
    response.headers["Server-Timing"] = server_timing(stages, since=request.state.received_at)
    backbone = runtime.backbone.identity.id
    return await json_response(FanOutResponse(results=[_result(request, part, backbone) for part in parts]), response)


@router.get("/limits")
async def read_limits(runtime: Running) -> Limits:
    """Return what one request may hold, for clients that split their rows into requests."""
    return Limits.model_validate(runtime.settings)


def _inference_request(
    settings: Settings, tenant: str, body: ClassifyRequest, *, num_tasks: int = 1
) -> InferenceRequest:
    return inference_request(
        settings,
        tenant,
        body.inputs,
        truncation=body.truncate,
        top_k=body.top_k,
        timeout_ms=body.timeout_ms,
        sticky_key=body.sticky_key,
        num_tasks=num_tasks,
    )


def _check_tasks(body: FanOutRequest, settings: Settings) -> None:
    if len(body.tasks) > settings.max_tasks_per_request:
        raise InvalidRequest(f"tasks has {len(body.tasks)} refs, expected at most {settings.max_tasks_per_request}")


def _result(request: Request, part: Part, backbone: str) -> FanOutAnswer | FanOutRefusal:
    if part.answer is not None:
        return FanOutAnswer(ref=part.ref, **dict(ClassifyResponse.of(part.answer, backbone)))
    assert part.refusal is not None
    return FanOutRefusal(
        ref=part.ref, problem=ProblemBody.model_validate(problem_body(request, problem_of(part.refusal)))
    )
