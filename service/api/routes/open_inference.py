"""The Open Inference Protocol (`/v2`) of KServe and Triton: a task is a model, its fields are the inputs."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain

from fastapi import APIRouter, Request, Response

from adapters import Ref, Resolution
from service.api.dependencies import TENSORS_BODY, RefPath, Running, TaskPath, Tenant, VersionPath, require_ready
from service.api.inference import annotate, inference_request, while_connected
from service.api.json_response import json_bytes, json_response, response_of
from service.api.openapi import errors
from service.api.problems import ErrorFormat, Problem
from service.api.schemas.open_inference import (
    Datatype,
    OipBinaryData,
    OipError,
    OipInferRequest,
    OipInferResponse,
    OipLive,
    OipModel,
    OipModelReady,
    OipOutput,
    OipReady,
    OipServer,
    OipTensorInfo,
    OutputName,
)
from service.api.strict_route import OpenRoute
from service.api.tensor_route import HEADER_LENGTH, OCTETS, TensorRoute, tensor_bytes
from service.catalog.adapter_cache import LoadedAdapter
from service.inference.predictions import Classification, Prediction
from service.inference.request import InferenceRequest
from service.pieces import map_in_pieces
from service.runtime import Runtime
from service.settings import Settings


def _error(problem: Problem) -> OipError:
    """Convert a problem to the API's own format."""
    return OipError(error=problem.detail)


ERROR_FORMAT = ErrorFormat(("/v2",), OipError, _error)

router = APIRouter(
    route_class=TensorRoute, prefix="/v2/models/{model}", tags=["Open Inference Protocol"], strict_content_type=False
)
open_router = APIRouter(route_class=OpenRoute, prefix="/v2", tags=router.tags)
_MODEL = errors(OipError, 400, 404, 409, 422, 503)
_INFER = {
    200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}},
    **errors(OipError, 400, 404, 409, 413, 415, 422, 429, 500, 503, 504),
}


@open_router.get("")
async def server_metadata() -> OipServer:
    """Return the server's name and version."""
    return OipServer(version=version("superpos"))


@open_router.get("/health/live")
async def live() -> OipLive:
    """Report that the process is alive."""
    return OipLive()


@open_router.get("/health/ready", responses=errors(OipError, 503))
async def ready(runtime: Running) -> OipReady:
    """Report whether the server can answer."""
    require_ready(runtime)
    return OipReady()


@router.get("", responses=_MODEL)
async def describe(model: RefPath, runtime: Running, tenant: Tenant) -> OipModel:
    """Describe the task's inputs and outputs."""
    return await _describe(runtime, tenant, Ref.parse(model))


@router.get("/versions/{version}", responses=_MODEL)
async def describe_version(model: TaskPath, version: VersionPath, runtime: Running, tenant: Tenant) -> OipModel:
    """Describe the inputs and outputs of one version."""
    return await _describe(runtime, tenant, Ref(model, version=version))


@router.get("/ready", responses=_MODEL)
async def model_ready(model: RefPath, runtime: Running, tenant: Tenant) -> OipModelReady:
    """Report whether the task exists and the server can answer."""
    return await _ready(runtime, tenant, Ref.parse(model))


@router.get("/versions/{version}/ready", responses=_MODEL)
async def version_ready(model: TaskPath, version: VersionPath, runtime: Running, tenant: Tenant) -> OipModelReady:
    """Report whether one version exists and the server can answer."""
    return await _ready(runtime, tenant, Ref(model, version=version))


@router.post("/infer", dependencies=[TENSORS_BODY], responses=_INFER, response_model=OipInferResponse)
async def infer(
    model: RefPath, body: OipInferRequest, request: Request, response: Response, runtime: Running, tenant: Tenant
) -> Response:
    """Classify the rows of the input tensors."""
    return await _infer(Ref.parse(model), body, request, response, runtime, tenant)


@router.post(
    "/versions/{version}/infer", dependencies=[TENSORS_BODY], responses=_INFER, response_model=OipInferResponse
)
async def infer_version(
    model: TaskPath,
    version: VersionPath,
    body: OipInferRequest,
    request: Request,
    response: Response,
    runtime: Running,
    tenant: Tenant,
) -> Response:
    """Classify the rows of the input tensors with one version."""
    return await _infer(Ref(model, version=version), body, request, response, runtime, tenant)


async def _infer(
    ref: Ref, body: OipInferRequest, request: Request, response: Response, runtime: Runtime, tenant: str
) -> Response:
    work = runtime.classifier.classify(ref, _inference_request(runtime.settings, tenant, body))
    classification = await while_connected(request, work)
    annotate(response, classification)
    return await _respond(body, await _answer(body, classification), response)


def _inference_request(settings: Settings, tenant: str, body: OipInferRequest) -> InferenceRequest:
    timeout_us = body.parameters.timeout
    timeout_ms = None if timeout_us is None else max(1, timeout_us // 1_000)
    return inference_request(settings, tenant, body.rows, truncation=body.parameters.truncate, timeout_ms=timeout_ms)


async def _answer(body: OipInferRequest, classification: Classification) -> OipInferResponse:
    asked = None if body.outputs is None else {output.name for output in body.outputs}
    outputs = [output for output in await _outputs(classification) if asked is None or output.name in asked]
    return OipInferResponse(
        model_name=classification.resolution.task,
        model_version=str(classification.resolution.version),
        id=body.id,
        outputs=outputs,
    )


async def _respond(body: OipInferRequest, answer: OipInferResponse, response: Response) -> Response:
    """Return an answer as JSON, with those outputs after it that are to be binary."""
    tensors: list[bytes] = []
    for output in answer.outputs:
        if body.is_binary(output.name):
            tensors.append(await tensor_bytes(output.datatype, output.data or []))
            output.data, output.parameters = None, OipBinaryData(binary_data_size=len(tensors[-1]))
    if not tensors:
        return await json_response(answer, response, exclude_none=True)
    header = await json_bytes(answer, exclude_none=True)
    response.headers[HEADER_LENGTH] = str(len(header))
    return response_of(b"".join([header, *tensors]), response, media_type=OCTETS)


async def _outputs(classification: Classification) -> list[OipOutput]:
    rows, names = classification.predictions, classification.label_names
    probs = await map_in_pieces(lambda row: [row.scores[name] for name in names], rows, values_each=len(names))
    outputs = [
        OipOutput(name="label", datatype="BYTES", shape=[len(rows)], data=[row.label for row in rows]),
        OipOutput(name="score", datatype="FP32", shape=[len(rows)], data=[row.score for row in rows]),
        _matrix("probs", "FP32", probs),
    ]
    values = [row.value for row in rows if row.value is not None]  # all rows of an ordinal task have one
    if values:
        outputs.append(OipOutput(name="value", datatype="FP32", shape=[len(rows)], data=values))
    if classification.is_multi_label:
        decisions = await map_in_pieces(partial(_decisions, names), rows, values_each=len(names))
        outputs.append(_matrix("decisions", "BOOL", decisions))
    return outputs


def _decisions(names: Sequence[str], row: Prediction) -> list[bool]:
    has = set(row.labels or ())
    return [name in has for name in names]


def _matrix(name: OutputName, datatype: Datatype, rows: Sequence[Sequence[float]]) -> OipOutput:
    """Return the output [rows, labels]; it is not validated, which would take long for a large one."""
    data = list(chain.from_iterable(rows))
    return OipOutput.model_construct(name=name, datatype=datatype, shape=[len(rows), len(rows[0])], data=data)


async def _describe(runtime: Runtime, tenant: str, ref: Ref) -> OipModel:
    info = runtime.registry.catalog.task(tenant, ref.task)
    adapter = await _loaded(runtime, runtime.registry.catalog.resolve(tenant, ref))
    outputs: list[tuple[OutputName, Datatype, list[int]]] = [
        ("label", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("probs", "FP32", [-1, len(adapter.label_names)]),
    ]
    if adapter.values is not None:
        outputs.append(("value", "FP32", [-1]))
    if adapter.label_thresholds is not None:
        outputs.append(("decisions", "BOOL", [-1, len(adapter.label_names)]))
    return OipModel(
        name=ref.task,
        versions=[str(known.version) for known in info.versions],
        inputs=[OipTensorInfo(name=field, datatype="BYTES", shape=[-1]) for field in adapter.template.fields],
        outputs=[OipTensorInfo(name=name, datatype=datatype, shape=dims) for name, datatype, dims in outputs],
        parameters={"labels": list(adapter.label_names)},
    )


async def _ready(runtime: Runtime, tenant: str, ref: Ref) -> OipModelReady:
    await _loaded(runtime, runtime.registry.catalog.resolve(tenant, ref))
    require_ready(runtime)
    return OipModelReady(name=ref.task)


async def _loaded(runtime: Runtime, resolution: Resolution) -> LoadedAdapter:
    return await runtime.registry.adapters.get(resolution.digest)
