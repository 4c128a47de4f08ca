"""Text Embeddings Inference's routes for classifiers: `/predict`, `/info`, `/health`.

TEI serves one model, so each task has its own routes below `/tei/{ref}`. The routes without a prefix are for the task
in the header `X-Superpos-Task`, or for the default task of the key or of the server.
"""

from functools import partial
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from adapters import Ref
from backbone import Truncation
from service.api.dependencies import (
    ROWS_BODY,
    DefaultTask,
    RefPath,
    Running,
    Tenant,
    require_ready,
    require_task,
)
from service.api.inference import ALL_LABELS, annotate, inference_request, while_connected
from service.api.json_response import json_response
from service.api.openapi import errors
from service.api.problems import ErrorFormat, Problem
from service.api.schemas.tei import ErrorType, Info, LabelIds, ModelType, PredictRequest, Scored, Scores, TeiError
from service.api.strict_route import OpenRoute, StrictRoute
from service.catalog.adapter_cache import LoadedAdapter
from service.errors import InvalidRequest
from service.inference.predictions import Classification
from service.inference.request import InferenceRequest
from service.pieces import map_in_pieces
from service.runtime import Runtime
from service.settings import Settings


def _error(problem: Problem) -> TeiError:
    """Convert a problem to the API's own format."""
    error_type: ErrorType = "Backend"
    if problem.code == "not_ready":
        error_type = "Unhealthy"
    elif problem.status == 429:
        error_type = "Overloaded"
    elif problem.status < 500:
        error_type = "Validation"
    return TeiError(error=problem.detail, error_type=error_type)


ERROR_FORMAT = ErrorFormat(("/predict", "/info", "/health", "/tei"), TeiError, _error)

router = APIRouter(route_class=StrictRoute, tags=["compatible with Text Embeddings Inference"])
open_router = APIRouter(route_class=OpenRoute, tags=router.tags)
_PREDICT = errors(TeiError, 400, 404, 409, 413, 415, 422, 429, 500, 503, 504)
_INFO = errors(TeiError, 400, 404, 409, 422, 503)


async def _named(default: DefaultTask) -> str:
    return require_task(default, place="the path (/tei/<task>/predict)")


Named = Annotated[str, Depends(_named)]


@router.post("/predict", dependencies=[ROWS_BODY], responses=_PREDICT, response_model=Scores)
async def predict(
    ref: Named, body: PredictRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Return all labels with their scores, best first, for the task of the header, the key or the server."""
    return await _predict(ref, body, request, response, runtime, tenant)


@router.post("/tei/{ref}", dependencies=[ROWS_BODY], responses=_PREDICT, response_model=Scores)
@router.post("/tei/{ref}/predict", dependencies=[ROWS_BODY], responses=_PREDICT, response_model=Scores)
async def predict_task(
    ref: RefPath, body: PredictRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Return all labels with their scores, best first."""
    return await _predict(ref, body, request, response, runtime, tenant)


@router.get("/info", responses=_INFO)
async def info(ref: Named, runtime: Running, tenant: Tenant) -> Info:
    """Describe the task of the header, the key or the server, as TEI describes its model."""
    return await _info(runtime, tenant, ref)


@router.get("/tei/{ref}/info", responses=_INFO)
async def info_of_task(ref: RefPath, runtime: Running, tenant: Tenant) -> Info:
    """Describe a task as TEI describes its model."""
    return await _info(runtime, tenant, ref)


@open_router.get("/health", response_class=Response, responses=errors(TeiError, 503))
async def health(runtime: Running) -> Response:
    """Return an empty 200 if the server can answer."""
    require_ready(runtime)
    return Response()


@open_router.get("/tei/{ref}/health", response_class=Response, responses=errors(TeiError, 400, 503))
async def health_of_task(ref: RefPath, runtime: Running) -> Response:
    """Return an empty 200 if the server can answer. Without a key, not even the task's existence is revealed."""
    Ref.parse(ref)
    require_ready(runtime)
    return Response()


async def _predict(
    ref: str, body: PredictRequest, request: Request, response: Response, runtime: Runtime, tenant: str
) -> Response:
    work = runtime.classifier.classify(Ref.parse(ref), _inference_request(runtime.settings, tenant, body))
    classification = await while_connected(request, work)
    annotate(response, classification)
    return await json_response(await _answer(body, classification), response)


def _inference_request(settings: Settings, tenant: str, body: PredictRequest) -> InferenceRequest:
    side: Truncation = "start" if body.truncation_direction.lower() == "left" else "end"
    top_k = body.parameters.top_k if body.parameters is not None else None
    truncation = side if body.truncate else "error"
    return inference_request(settings, tenant, body.sequences, truncation=truncation, top_k=top_k or ALL_LABELS)


async def _answer(body: PredictRequest, classification: Classification) -> Scores:
    function = None if body.parameters is None else body.parameters.function_to_apply
    _check_function(function, classification)
    raw = body.raw_scores or function == "none"
    rows = await map_in_pieces(
        partial(Scored.listed, raw=raw), classification.predictions, values_each=len(classification.label_names)
    )
    return rows if body.is_batch or body.parameters is not None else rows[0]


def _check_function(function: str | None, classification: Classification) -> None:
    """Refuse scores that the task's readout does not have."""
    own = "sigmoid" if classification.is_multi_label else "softmax"
    if function not in (None, "none", own):
        raise InvalidRequest(
            f"parameters.function_to_apply is {function!r}, expected {own!r} or 'none': task "
            f"{classification.resolution.task!r} is {'multi-label' if own == 'sigmoid' else 'not multi-label'}"
        )


async def _info(runtime: Runtime, tenant: str, ref: str) -> Info:
    resolution = runtime.registry.catalog.resolve(tenant, Ref.parse(ref))
    return _described(ref, await runtime.registry.adapters.get(resolution.digest), runtime)


def _described(ref: str, adapter: LoadedAdapter, runtime: Runtime) -> Info:
    settings, names = runtime.settings, adapter.label_names
    labels = LabelIds(
        id2label={str(index): name for index, name in enumerate(names)},
        label2id={name: index for index, name in enumerate(names)},
    )
    return Info(
        model_id=ref,
        model_sha=adapter.digest,
        model_dtype={"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}[adapter.precision],
        model_type=ModelType(classifier=labels),
        max_concurrent_requests=settings.max_queue_rows,
        max_input_length=adapter.max_tokens,
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_requests=None,
        max_client_batch_size=settings.max_rows_per_request,
        auto_truncate=False,
        tokenization_workers=1,
        version=version("superpos"),
        sha=None,
        docker_label=None,
    )
