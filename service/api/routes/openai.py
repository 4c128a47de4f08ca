"""vLLM's `/v1/classify` and OpenAI's `/v1/models`: every task and every alias is a model."""

import time

from fastapi import APIRouter, Request, Response

from adapters import PRODUCTION, Ref, Resolution, TaskInfo
from backbone import Truncation
from service.api.dependencies import ROWS_BODY, RefPath, Running, Tenant
from service.api.inference import annotate, inference_request, while_connected
from service.api.json_response import json_response
from service.api.openapi import errors
from service.api.problems import ErrorFormat, Problem
from service.api.schemas.openai import (
    ModelCard,
    ModelList,
    OpenAIClassData,
    OpenAIClassifyRequest,
    OpenAIClassifyResponse,
    OpenAIError,
    OpenAIErrorDetail,
    OpenAIUsage,
)
from service.api.strict_route import StrictRoute
from service.inference.predictions import Classification, Prediction
from service.pieces import map_in_pieces


def _error(problem: Problem) -> OpenAIError:
    """Convert a problem to the API's own format."""
    detail = OpenAIErrorDetail(message=problem.detail, type=problem.code, param=None, code=problem.status)
    return OpenAIError(error=detail)


ERROR_FORMAT = ErrorFormat(("/v1",), OpenAIError, _error)

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["compatible with vLLM and OpenAI"])


@router.post(
    "/classify",
    dependencies=[ROWS_BODY],
    responses=errors(OpenAIError, 400, 404, 409, 413, 415, 422, 429, 500, 503, 504),
    response_model=OpenAIClassifyResponse,
)
async def classify(
    body: OpenAIClassifyRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Return the probabilities of all labels in the task's order."""
    truncation: Truncation = "error"
    if body.truncate_prompt_tokens is not None:
        truncation = "start" if body.truncation_side == "left" else "end"
    ref = Ref.parse(body.model)
    inference = inference_request(runtime.settings, tenant, body.input, truncation=truncation)
    classification = await while_connected(request, runtime.classifier.classify(ref, inference))
    annotate(response, classification)
    return await json_response(await _answer(body, classification, request_id=request.state.request_id), response)


@router.get("/models")
async def list_models(runtime: Running, tenant: Tenant) -> ModelList:
    """List every task, and `task@alias` for aliases other than `production`."""
    backbone = runtime.backbone.identity.id
    return ModelList(data=[card for info in runtime.registry.catalog.tasks(tenant) for card in _cards(info, backbone)])


@router.get("/models/{model}", responses=errors(OpenAIError, 400, 404, 409))
async def describe_model(model: RefPath, runtime: Running, tenant: Tenant) -> ModelCard:
    """Describe one model, by its name or any other ref."""
    ref = Ref.parse(model)
    info = runtime.registry.catalog.task(tenant, ref.task)
    return _card(model, info, info.resolve(ref), runtime.backbone.identity.id)


async def _answer(
    body: OpenAIClassifyRequest, classification: Classification, *, request_id: str
) -> OpenAIClassifyResponse:
    names = classification.label_names

    def row(numbered: tuple[int, Prediction]) -> OpenAIClassData:
        index, prediction = numbered
        values = prediction.logprobs if body.use_activation is False else prediction.scores
        probs = [values[name] for name in names]
        return OpenAIClassData(index=index, label=prediction.label, probs=probs, num_classes=len(names))

    data = await map_in_pieces(row, list(enumerate(classification.predictions)), values_each=len(names))
    num_tokens = sum(prediction.tokens for prediction in classification.predictions)
    return OpenAIClassifyResponse(
        id=f"classify-{request_id}",
        created=int(time.time()),
        model=body.model,
        data=data,
        usage=OpenAIUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
    )


def _cards(info: TaskInfo, backbone: str) -> list[ModelCard]:
    aliases = sorted(info.aliases, key=lambda alias: (alias != PRODUCTION, alias))
    refs = [(Ref(info.task, alias=alias), alias) for alias in aliases]
    return [
        _card(info.task if alias == PRODUCTION else str(ref), info, info.resolve(ref), backbone) for ref, alias in refs
    ]


def _card(name: str, info: TaskInfo, resolution: Resolution, backbone: str) -> ModelCard:
    published = next(version for version in info.versions if version.version == resolution.version)
    created = int(published.created_at.timestamp())
    return ModelCard(id=name, created=created, root=resolution.digest, parent=backbone)
