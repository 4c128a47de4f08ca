"""`POST /classify/{ref}`, `POST /classify` for several refs or the default task, and `GET /limits`."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from adapters import Ref
from service.api.dependencies import (
    ROWS_BODY,
    DefaultTask,
    RefPath,
    Running,
    Tenant,
    refuse_header,
    require_task,
)
from service.api.inference import ALL_LABELS, annotate, identify, inference_request, server_timing, while_connected
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
from service.api.schemas.tei import Scored, Scores
from service.api.schemas.types import ProblemBody
from service.api.strict_route import StrictRoute
from service.errors import InvalidRequest
from service.inference.fan_out import Part, fan_out
from service.inference.predictions import Classification
from service.inference.request import InferenceRequest
from service.pieces import map_in_pieces
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
    identify(response, classification)
    response.headers["Server-Timing"] = server_timing([classification.stages], since=request.state.received_at)
    return await json_response(ClassifyResponse.of(classification, runtime.backbone.identity.id), response)


@router.post("/classify", dependencies=[ROWS_BODY], responses=_PROBLEMS, response_model=FanOutResponse | Scores)
async def classify_by_several(
    body: FanOutRequest,
    request: Request,
    response: Response,
    runtime: Running,
    tenant: Tenant,
    default_task: DefaultTask,
) -> Response:
    """Classify the same inputs with several tasks, whose rows share the model's batches.

    Tasks without a prompt share more: a text that they render alike is encoded, and paid for, once. Results are in the
    order of `tasks`. The result of a task that fails is its `problem`. If every task fails, the response is the problem
    of the first.

    Without `tasks`, the task of the header `X-Superpos-Task` classifies, or else the default task of the key or of the
    server. The response then has the format of Text Embeddings Inference: all labels with their scores, best first; one
    such list per input if `inputs` is a list.
    """
    if body.tasks is None:
        ref = Ref.parse(require_task(default_task, place="tasks"))
        inference = _inference_request(runtime.settings, tenant, body, top_k=body.top_k or ALL_LABELS)
        classification = await while_connected(request, runtime.classifier.classify(ref, inference))
        return await _scores(classification, request, response, is_batch=body.is_batch)
    refuse_header(request, place="tasks")
    inference = _inference_request(runtime.settings, tenant, body, num_tasks=len(body.tasks))
    _check_tasks(body.tasks, runtime.settings)
    parts = await while_connected(request, fan_out(runtime.classifier, body.tasks, inference))
    answers = [part.answer for part in parts if part.answer is not None]
    if len(parts) == 1:
        identify(response, answers[0])
    stages = [answer.stages for answer in answers]
    response.headers["Server-Timing"] = server_timing(stages, since=request.state.received_at)
    backbone = runtime.backbone.identity.id
    return await json_response(FanOutResponse(results=[_result(request, part, backbone) for part in parts]), response)


@router.get("/limits")
async def read_limits(runtime: Running) -> Limits:
    """Return what one request may hold, for clients that split their rows into requests."""
    return Limits.model_validate(runtime.settings)


def _inference_request(
    settings: Settings, tenant: str, body: ClassifyRequest, *, top_k: int | None = None, num_tasks: int = 1
) -> InferenceRequest:
    return inference_request(
        settings,
        tenant,
        body.inputs,
        truncation=body.truncate,
        top_k=body.top_k if top_k is None else top_k,
        timeout_ms=body.timeout_ms,
        sticky_key=body.sticky_key,
        num_tasks=num_tasks,
    )


async def _scores(classification: Classification, request: Request, response: Response, *, is_batch: bool) -> Response:
    """Return the answer in the format of Text Embeddings Inference."""
    annotate(response, classification)
    response.headers["Server-Timing"] = server_timing([classification.stages], since=request.state.received_at)
    rows = await map_in_pieces(Scored.listed, classification.predictions, values_each=len(classification.label_names))
    return await json_response(rows if is_batch else rows[0], response)


def _check_tasks(refs: Sequence[str], settings: Settings) -> None:
    if len(refs) > settings.max_tasks_per_request:
        raise InvalidRequest(f"tasks has {len(refs)} refs, expected at most {settings.max_tasks_per_request}")


def _result(request: Request, part: Part, backbone: str) -> FanOutAnswer | FanOutRefusal:
    if part.answer is not None:
        return FanOutAnswer(ref=part.ref, **dict(ClassifyResponse.of(part.answer, backbone)))
    assert part.refusal is not None
    return FanOutRefusal(
        ref=part.ref, problem=ProblemBody.model_validate(problem_body(request, problem_of(part.refusal)))
    )
