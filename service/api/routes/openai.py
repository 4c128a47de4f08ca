"""vLLM's `/v1/classify`, and OpenAI's `/v1/moderations` and `/v1/models`: every task and every alias is a model."""

import time
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from adapters import PRODUCTION, Ref, Resolution, TaskInfo
from backbone import Truncation
from service.api.dependencies import (
    ROWS_BODY,
    DefaultTask,
    RefPath,
    Running,
    Tenant,
    refuse_header,
    require_task,
)
from service.api.inference import annotate, inference_request, while_connected
from service.api.json_response import json_response
from service.api.openapi import errors
from service.api.problems import ErrorFormat, Problem
from service.api.schemas.openai import (
    ModelCard,
    ModelList,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    OpenAIClassData,
    OpenAIClassifyRequest,
    OpenAIClassifyResponse,
    OpenAIError,
    OpenAIErrorDetail,
    OpenAIUsage,
)
from service.api.strict_route import StrictRoute
from service.errors import InvalidRequest
from service.inference.fan_out import answers_of, fan_out
from service.inference.flags import Category, Flag, categories_of
from service.inference.predictions import Classification, Prediction
from service.pieces import map_in_pieces

_CARD_VALUES = 8


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
    ref = Ref.parse(body.model)
    inference = inference_request(runtime.settings, tenant, body.input, truncation=_truncation(body))
    classification = await while_connected(request, runtime.classifier.classify(ref, inference))
    annotate(response, classification)
    return await json_response(await _answer(body, classification, request_id=request.state.request_id), response)


@router.post(
    "/moderations",
    dependencies=[ROWS_BODY],
    responses=errors(OpenAIError, 400, 404, 409, 413, 415, 422, 429, 500, 503, 504),
    response_model=ModerationResponse,
)
async def moderate(
    body: ModerationRequest,
    request: Request,
    response: Response,
    runtime: Running,
    tenant: Tenant,
    default_task: DefaultTask,
) -> Response:
    """Flag texts by one or more tasks, whose rows share the model's batches.

    All tasks answer or none: a category that is missing would read as one that does not apply.
    """
    if body.model is not None:
        refuse_header(request, place="model")
    model = require_task(default_task, place="model") if body.model is None else body.model
    flags = Flag.parse_all(model)
    refs, most = list(dict.fromkeys(flag.ref for flag in flags)), runtime.settings.max_tasks_per_request
    if len(refs) > most:
        raise InvalidRequest(f"model names {len(refs)} tasks, expected at most {most}")
    inference = inference_request(
        runtime.settings, tenant, body.input, truncation=_truncation(body), num_tasks=len(refs)
    )
    classifications = answers_of(await while_connected(request, fan_out(runtime.classifier, refs, inference)))
    annotate(response, *classifications)
    categories = categories_of(flags, classifications)
    rows = list(zip(*(each.predictions for each in classifications), strict=True))
    results = await map_in_pieces(partial(_moderated, categories), rows, values_each=3 * len(categories))
    answer = ModerationResponse(id=f"modr-{request.state.request_id}", model=model, results=results)
    return await json_response(answer, response)


@router.get("/models", response_model=ModelList)
async def list_models(runtime: Running, tenant: Tenant, response: Response) -> Response:
    """List every task, and `task@alias` for aliases other than `production`."""
    cards_of = partial(_cards, backbone=runtime.backbone.identity.id)
    cards = await map_in_pieces(cards_of, runtime.registry.catalog.tasks(tenant), values_each=_CARD_VALUES)
    return await json_response(ModelList(data=[card for of_task in cards for card in of_task]), response)


@router.get("/models/{model}", responses=errors(OpenAIError, 400, 404, 409))
async def describe_model(model: RefPath, runtime: Running, tenant: Tenant) -> ModelCard:
    """Describe one model, by its name or any other ref."""
    ref = Ref.parse(model)
    info = runtime.registry.catalog.task(tenant, ref.task)
    return _card(model, info, info.resolve(ref), runtime.backbone.identity.id)


def _truncation(body: OpenAIClassifyRequest | ModerationRequest) -> Truncation:
    if body.truncate_prompt_tokens is None:
        return "error"
    return "start" if body.truncation_side == "left" else "end"


def _moderated(categories: Sequence[Category], predictions: Sequence[Prediction]) -> ModerationResult:
    """Return the result of one text, for which each task has a prediction."""
    reached = {each.name: each.reached(predictions[each.answer]) for each in categories}
    return ModerationResult(
        flagged=any(reached.values()),
        categories=reached,
        category_scores={each.name: predictions[each.answer].scores[each.label] for each in categories},
        category_applied_input_types={name: ["text"] for name in reached},
    )


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
