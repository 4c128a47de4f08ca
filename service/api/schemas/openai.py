"""The JSON of `/v1`: OpenAI's list of models and moderation, and vLLM's classification."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from service.api.schemas.classify import Inputs
from service.api.schemas.types import RefText, RequestSchema, Schema

OWNER = "superpos"


class OpenAIErrorDetail(Schema):
    message: str
    type: str
    """Stable name of the kind of problem."""
    param: str | None
    code: int
    """The HTTP status."""


class OpenAIError(Schema):
    """An error in the format of OpenAI's and vLLM's APIs."""

    error: OpenAIErrorDetail


class OpenAIClassifyRequest(
    RequestSchema, json_schema_extra={"examples": [{"model": "sst2", "input": ["a gripping film", "too long"]}]}
):
    """A text or a list of texts; for a task with several fields, objects with these fields."""

    model: RefText
    """The task, as a ref."""
    input: Inputs
    truncate_prompt_tokens: Literal[-1] | None = None
    """-1 cuts texts over the task's limit; by default such a text is an error."""
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None
    """False returns log-probabilities before calibration instead of calibrated probabilities."""
    user: Annotated[str, Field(max_length=1_024)] | None = None
    """Accepted and ignored; OpenAI's clients may send it."""


class OpenAIClassData(Schema):
    index: int
    label: str
    """The most probable label, also in a multi-label task: the format has no list of labels."""
    probs: list[float]
    """One value per label, in the task's order; those of a multi-label task do not sum to 1."""
    num_classes: int


class OpenAIUsage(Schema):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None


class OpenAIClassifyResponse(Schema):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[OpenAIClassData]
    usage: OpenAIUsage


def _check_texts(value: object) -> object:
    """Check the input with one error message; pydantic would give one for each member of the union."""
    texts = value if isinstance(value, list) else [value]
    if texts and all(isinstance(text, str) for text in texts):
        return texts
    raise ValueError("expected a string or a list of strings; images are not moderated")


Texts = Annotated[list[str], Field(min_length=1)]
Moderated = Annotated[Texts, BeforeValidator(_check_texts, json_schema_input_type=str | Texts)]


class ModerationRequest(
    RequestSchema,
    json_schema_extra={
        "examples": [{"model": "sst2/negative", "input": ["a gripping film", "too long"]}, {"input": "too long"}]
    },
):
    """A text or a list of texts, and the tasks that flag them."""

    input: Moderated
    model: Annotated[str, Field(max_length=8_192)] | None = None
    """The flags, separated by commas: a task with two labels, whose second one flags; a multi-label task, each label of
    which is a category; or `task/label`, a label of any task. By default the key's or the server's default task.
    """
    truncate_prompt_tokens: Literal[-1] | None = None
    """-1 cuts texts over a task's limit; by default such a text is an error."""
    truncation_side: Literal["left", "right"] | None = None


class ModerationResult(Schema):
    """One text."""

    flagged: bool
    """Whether any category is."""
    categories: dict[str, bool]
    """By name: the task's of two labels, `task/label`, or a multi-label task's label."""
    category_scores: dict[str, float]
    """Probability of each category's label."""
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationResponse(Schema):
    id: str
    model: str
    results: list[ModerationResult]
    """In the order of the input."""


class ModelCard(Schema):
    """A task's version under one of its names."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    root: str
    """Digest of the adapter."""
    parent: str
    """The backbone."""


class ModelList(Schema):
    object: Literal["list"] = "list"
    data: list[ModelCard]
