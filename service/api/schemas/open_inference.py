"""The JSON of the Open Inference Protocol."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters import InvalidRow
from backbone import Truncation
from service.api.schemas.types import Positive

PLATFORM = "superpos_t5"
OutputName = Literal["label", "score", "probs", "value"]
Datatype = Literal["BYTES", "FP32"]


class OipError(BaseModel):
    """How the protocol says an error."""

    error: str


class OipServer(BaseModel):
    name: str = "superpos"
    version: str
    extensions: list[str] = Field(default_factory=list)


class OipLive(BaseModel):
    live: Literal[True] = True


class OipReady(BaseModel):
    ready: Literal[True] = True


class OipModelReady(BaseModel):
    name: str
    ready: Literal[True] = True


class OipTensorInfo(BaseModel):
    name: str
    """A field of the task, or an output."""
    datatype: Datatype
    shape: list[int]
    """-1 for as many as there are rows."""


class OipModel(BaseModel):
    name: str
    versions: list[str]
    platform: str = PLATFORM
    inputs: list[OipTensorInfo]
    outputs: list[OipTensorInfo]
    parameters: dict[str, list[str]]
    """`labels`, in the order in which `probs` has them."""


def _flat(value: object) -> object:
    """A tensor of shape [N, 1] may come as N lists."""
    if isinstance(value, list) and value and all(isinstance(entry, list) for entry in value):
        return [item for entry in value for item in entry]
    return value


Flat = Annotated[list[str], Field(min_length=1)]
Column = Annotated[list[Annotated[list[str], Field(min_length=1, max_length=1)]], Field(min_length=1)]


class OipInput(BaseModel):
    """One field of the task, of every row."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    shape: Annotated[list[Positive], Field(min_length=1, max_length=2)]
    """[N] or [N, 1]."""
    datatype: Literal["BYTES"]
    data: Annotated[list[str], Field(min_length=1), BeforeValidator(_flat, json_schema_input_type=Flat | Column)]

    @property
    def fits_its_shape(self) -> bool:
        """Whether there are as many texts as it says."""
        return self.shape[1:] in ([], [1]) and self.shape[0] == len(self.data)


class OipOutputParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    binary_data: bool | None = None
    """Taken and not used: the answer is JSON, which Triton's clients read as well."""


class OipRequestedOutput(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: OutputName
    parameters: OipOutputParameters | None = None


class OipParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    truncate: Truncation = "error"
    timeout: Positive | None = None
    """Microseconds, as in Triton."""
    binary_data_output: bool | None = None
    """Taken and not used: the answer is JSON, which Triton's clients read as well."""


class OipInferRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "7",
                    "inputs": [{"name": "sentence", "shape": [1], "datatype": "BYTES", "data": ["a gripping film"]}],
                }
            ]
        },
    )

    id: str | None = None
    parameters: OipParameters = Field(default_factory=OipParameters)
    inputs: Annotated[list[OipInput], Field(min_length=1)]
    outputs: Annotated[list[OipRequestedOutput], Field(min_length=1)] | None = None
    """Which to answer; left out, all."""

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows that the tensors have together (`InvalidRow` where they are no table)."""
        for tensor in self.inputs:
            if not tensor.fits_its_shape:
                texts = f"shape {tensor.shape} and {len(tensor.data)} texts"
                raise InvalidRow(f"input {tensor.name!r} has {texts}, expected [N] or [N, 1] and N texts")
        names = [tensor.name for tensor in self.inputs]
        sizes = {len(tensor.data) for tensor in self.inputs}
        if len(set(names)) < len(names) or len(sizes) > 1:
            raise InvalidRow(f"inputs {', '.join(names)}: {sorted(sizes)} texts, expected each once, of one length")
        columns = (tensor.data for tensor in self.inputs)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class OipOutput(BaseModel):
    name: OutputName
    datatype: Datatype
    shape: list[int]
    data: list[str] | list[float]
    """Row by row."""


class OipInferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    """The request's, where it had one."""
    outputs: list[OipOutput]
