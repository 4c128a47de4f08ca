"""The JSON of `/classify`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from service.api.schemas.types import Positive, ProblemBody, RefText, RequestSchema, Schema
from service.catalog.routing import MAX_STICKY_KEY_CHARS
from service.inference.predictions import Classification, Prediction


def check_item(value: object) -> object:
    """Check an input with one error message; pydantic would give one for each member of the union."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise ValueError("expected a string, or an object whose values are strings")


Item = Annotated[str | dict[str, str], BeforeValidator(check_item)]


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Items = Annotated[list[Item], Field(min_length=1)]
Inputs = Annotated[Items, BeforeValidator(_as_list, json_schema_input_type=Item | Items)]


class ClassifyRequest(
    RequestSchema,
    json_schema_extra={
        "examples": [
            {"inputs": "a gripping film"},
            {
                "inputs": ["a gripping film", {"sentence": "flat and overlong"}],
                "truncate": "end",
                "top_k": 2,
                "timeout_ms": 2000,
            },
        ]
    },
):
    """One input or a list of inputs: a string for a task with one field, or an object with the task's fields."""

    inputs: Inputs
    truncate: Literal["error", "start", "end"] = "error"
    """Which end of the fields to cut where a text is over the task's limit: the longest field first, and never the
    template's words. By default such a text is an error.
    """
    top_k: Positive | None = None
    """Number of best labels to return; by default all labels of a task with up to 20, else 5."""
    timeout_ms: Positive | None = None
    sticky_key: Annotated[str, Field(min_length=1, max_length=MAX_STICKY_KEY_CHARS)] | None = None
    """For example a user id. While a canary takes part of the traffic, one key always gets the same version."""


class Limits(Schema):
    """Limits of one request. A client with more rows sends several requests."""

    max_rows_per_request: int
    """Inputs × tasks."""
    max_tasks_per_request: int
    max_text_chars: int
    """Characters of one input after its task's template; its tokens are limited by the task."""
    max_body_bytes: int
    """Bytes of a JSON body, also after decompression."""
    max_upload_bytes: int
    default_timeout_ms: int
    max_timeout_ms: int


class ClassifyResponse(Schema):
    """Predictions in the order of the inputs, all by one version."""

    task: str
    version: int
    adapter: str
    backbone: str
    precision: Literal["fp32", "int8", "bf16"]
    """In which the model computed the scores: the server's, or fp32 for a version that it does not suit."""
    predictions: list[Prediction]

    @classmethod
    def of(cls, classification: Classification, backbone: str) -> "ClassifyResponse":
        """Build the body."""
        return cls(
            task=classification.resolution.task,
            version=classification.resolution.version,
            adapter=classification.resolution.digest,
            backbone=backbone,
            precision=classification.precision,
            predictions=classification.predictions,
        )


class FanOutRequest(
    ClassifyRequest,
    json_schema_extra={
        "examples": [{"tasks": ["sst2", "sst2@2"], "inputs": ["a gripping film"]}, {"inputs": "a gripping film"}]
    },
):
    """The same inputs for several tasks: a string fits every task with one field, an object those with its fields."""

    tasks: Annotated[list[RefText], Field(min_length=1)] | None = None
    """Refs; each is answered as by `POST /classify/{ref}`. Without them, the default task answers with all labels."""
    _is_batch: bool = PrivateAttr(default=True)

    @model_validator(mode="wrap")
    @classmethod
    def _note_batch(cls, value: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        made = validate(value)
        made._is_batch = not isinstance(value, dict) or isinstance(value.get("inputs"), list)
        return made

    @property
    def is_batch(self) -> bool:
        """Whether `inputs` is a list, so that the default task's response has one list per input."""
        return self._is_batch


class FanOutAnswer(ClassifyResponse):
    """The response of `POST /classify/{ref}` for one of the tasks."""

    ref: str
    """As given in the request."""


class FanOutRefusal(Schema):
    """The problem of one task; the other tasks are still answered."""

    ref: str
    problem: ProblemBody


class FanOutResponse(Schema):
    """Results in the order of `tasks`."""

    results: list[FanOutAnswer | FanOutRefusal]
