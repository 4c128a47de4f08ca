"""vLLM's `/v1/classify` and OpenAI's `/v1/models`: every task, and every alias of it, is a model."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapters import PRODUCTION, Ref, Resolution, TaskInfo
from adapters.resolution import resolve_among
from backbone import Truncation
from service.classifier import Classification
from service.problems import Face, Problem
from service.routes.asking import Question, ask
from service.routes.common import JSON_BODY, Running, Tenant, errors
from service.routes.parameters import RefPath
from service.schemas import Inputs, RefText

OWNER = "superpos"


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    """The stable code of the problem."""
    param: str | None
    code: int
    """The HTTP status."""


class OpenAIError(BaseModel):
    """How OpenAI's API, and vLLM's, say an error."""

    error: OpenAIErrorDetail


class OpenAIClassifyRequest(BaseModel):
    """A text or a list of them; of a task with several fields, objects of these."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"model": "sst2", "input": ["a gripping film", "too long"]}]},
    )

    model: RefText
    input: Inputs
    truncate_prompt_tokens: Literal[-1] | None = None
    """-1 cuts texts over the task's limit, which are an error otherwise."""
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None
    """False answers log-probabilities before calibration instead of calibrated probabilities."""
    user: Annotated[str, Field(max_length=1_024)] | None = None
    """Taken and not used: OpenAI's clients may send it."""


class OpenAIClassData(BaseModel):
    index: int
    label: str
    probs: list[float]
    """Of every label, in the task's order."""
    num_classes: int


class OpenAIUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None


class OpenAIClassifyResponse(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[OpenAIClassData]
    usage: OpenAIUsage


class ModelCard(BaseModel):
    """A task's version under one name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    root: str
    """The digest of the adapter."""
    parent: str
    """The backbone."""


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


def shape(problem: Problem) -> OpenAIError:
    """A problem as OpenAI's API says it."""
    detail = OpenAIErrorDetail(message=problem.detail, type=problem.code, param=None, code=problem.status)
    return OpenAIError(error=detail)


ERROR = OpenAIError
FACE = Face(("/v1",), lambda problem: shape(problem).model_dump())

router = APIRouter(prefix="/v1", tags=["compatible with vLLM and OpenAI"])


@router.post(
    "/classify",
    dependencies=[JSON_BODY],
    responses=errors(OpenAIError, 400, 404, 409, 413, 415, 422, 429, 500, 503, 504),
)
async def classify(
    body: OpenAIClassifyRequest, request: Request, world: Running, tenant: Tenant
) -> OpenAIClassifyResponse:
    """Every label's probability, in the task's order."""
    truncation: Truncation = "error"
    if body.truncate_prompt_tokens is not None:
        truncation = "start" if body.truncation_side == "left" else "end"
    classification = await ask(request, world, tenant, Ref.parse(body.model), Question(body.input, truncation))
    return _answer(body, classification, request_id=request.state.request_id)


@router.get("/models")
async def list_models(world: Running, tenant: Tenant) -> ModelList:
    """Every task, and `task@alias` of its other aliases."""
    backbone = world.backbone.identity.id
    return ModelList(data=[card for info in world.catalog.tasks(tenant) for card in _cards(info, backbone)])


@router.get("/models/{model}", responses=errors(OpenAIError, 400, 404, 409))
async def describe_model(model: RefPath, world: Running, tenant: Tenant) -> ModelCard:
    """One of them, or what any other ref means."""
    ref = Ref.parse(model)
    info = world.catalog.task(tenant, ref.task)
    return _card(model, info, resolve_among(info, ref), world.backbone.identity.id)


def _answer(body: OpenAIClassifyRequest, classification: Classification, *, request_id: str) -> OpenAIClassifyResponse:
    names = classification.label_names
    data = []
    for index, prediction in enumerate(classification.predictions):
        values = prediction.logprobs if body.use_activation is False else prediction.scores
        probs = [values[name] for name in names]
        data.append(OpenAIClassData(index=index, label=prediction.label, probs=probs, num_classes=len(names)))
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
        _card(info.task if alias == PRODUCTION else str(ref), info, resolve_among(info, ref), backbone)
        for ref, alias in refs
    ]


def _card(name: str, info: TaskInfo, resolution: Resolution, backbone: str) -> ModelCard:
    published = next(version for version in info.versions if version.version == resolution.version)
    created = int(published.created_at.timestamp())
    return ModelCard(id=name, created=created, root=resolution.digest, parent=backbone)
