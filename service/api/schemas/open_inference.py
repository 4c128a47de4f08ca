"""The JSON of the Open Inference Protocol (`/v2`)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from adapters import InvalidRow
from backbone import Truncation
from service.api.schemas.types import Positive, RequestSchema, Schema

PLATFORM = "superpos_t5"
OutputName = Literal["label", "score", "probs", "value", "decisions"]
Datatype = Literal["BYTES", "FP32", "BOOL"]


class OipError(Schema):
    """An error in the protocol's format."""

    error: str


class OipServer(Schema):
    name: str = "superpos"
    version: str
    extensions: list[str] = Field(default_factory=lambda: ["binary_tensor_data"])


class OipLive(Schema):
    live: Literal[True] = True


class OipReady(Schema):
    ready: Literal[True] = True


class OipModelReady(Schema):
    name: str
    ready: Literal[True] = True


class OipTensorInfo(Schema):
    name: str
    """Name of a field of the task, or of an output."""
    datatype: Datatype
    shape: list[int]
    """-1 stands for the number of rows."""


class OipModel(Schema):
    name: str
    versions: list[str]
    platform: str = PLATFORM
    inputs: list[OipTensorInfo]
    outputs: list[OipTensorInfo]
    parameters: dict[str, list[str]]
    """`labels`, in the order of `probs`."""


def _flat(value: object) -> object:
    """Flatten a tensor of shape [N, 1], which may be sent as N lists."""
    if isinstance(value, list) and value and all(isinstance(entry, list) for entry in value):
        return [item for entry in value for item in entry]
    return value


Flat = Annotated[list[str], Field(min_length=1)]
Column = Annotated[list[Annotated[list[str], Field(min_length=1, max_length=1)]], Field(min_length=1)]


class OipInput(RequestSchema):
    """One field of the task, for every row.

    In place of `data`, `"parameters": {"binary_data_size": n}` says that n bytes after the JSON have the texts, each as
    its length (4 bytes, little-endian) and its UTF-8. The header `Inference-Header-Content-Length` then states the
    length of the JSON.
    """

    name: str
    shape: Annotated[list[Positive], Field(min_length=1, max_length=2)]
    """[N] or [N, 1]."""
    datatype: Literal["BYTES"]
    data: Annotated[list[str], Field(min_length=1), BeforeValidator(_flat, json_schema_input_type=Flat | Column)]

    @property
    def fits_its_shape(self) -> bool:
        """Whether the shape matches the number of texts."""
        return self.shape[1:] in ([], [1]) and self.shape[0] == len(self.data)


class OipOutputParameters(RequestSchema):
    binary_data: bool | None = None
    """Return the output as binary data; by default as `binary_data_output` says."""


class OipRequestedOutput(RequestSchema):
    name: OutputName
    parameters: OipOutputParameters | None = None


class OipParameters(RequestSchema):
    truncate: Truncation = "error"
    timeout: Positive | None = None
    """Microseconds, as in Triton."""
    binary_data_output: bool | None = None
    """Return outputs as binary data after the JSON, of the length that `Inference-Header-Content-Length` states."""


class OipInferRequest(
    RequestSchema,
    json_schema_extra={
        "examples": [
            {
                "id": "7",
                "inputs": [{"name": "sentence", "shape": [1], "datatype": "BYTES", "data": ["a gripping film"]}],
            }
        ]
    },
):
    id: Annotated[str, Field(max_length=200)] | None = None
    """Returned with the answer."""
    parameters: OipParameters = Field(default_factory=OipParameters)
    inputs: Annotated[list[OipInput], Field(min_length=1)]
    outputs: Annotated[list[OipRequestedOutput], Field(min_length=1)] | None = None
    """Outputs to return; by default all."""

    def is_binary(self, name: OutputName) -> bool:
        """Whether an output is to be returned as binary data."""
        own = [each.parameters.binary_data for each in self.outputs or () if each.name == name and each.parameters]
        return bool(self.parameters.binary_data_output if not own or own[-1] is None else own[-1])

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows that the tensors form (`InvalidRow` if their shapes or lengths do not match)."""
        for tensor in self.inputs:
            if not tensor.fits_its_shape:
                texts = f"shape {tensor.shape} and {len(tensor.data)} texts"
                raise InvalidRow(f"input {tensor.name!r} has {texts}, expected [N] or [N, 1] and N texts")
        names = [tensor.name for tensor in self.inputs]
        sizes = {len(tensor.data) for tensor in self.inputs}
        if len(set(names)) < len(names) or len(sizes) > 1:
            given = f"inputs {', '.join(map(repr, names))} have {sorted(sizes)} texts"
            raise InvalidRow(f"{given}, expected different names and equal lengths")
        columns = (tensor.data for tensor in self.inputs)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class OipBinaryData(Schema):
    binary_data_size: int
    """Bytes of the output among those after the JSON, in the order of the outputs."""


class OipOutput(Schema):
    name: OutputName
    datatype: Datatype
    shape: list[int]
    data: list[str] | list[float] | list[bool] | None = None
    """In row-major order; absent from an output in binary."""
    parameters: OipBinaryData | None = None
    """Only of an output in binary."""


class OipInferResponse(Schema):
    model_name: str
    model_version: str
    id: str | None = None
    """Copied from the request; absent if it had none."""
    outputs: list[OipOutput]
