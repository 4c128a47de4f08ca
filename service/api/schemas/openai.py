"""TODO."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.schemas.classify import Inputs
from service.api.schemas.types import RefText

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
