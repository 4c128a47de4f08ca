"""The JSON of the native routes."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.schemas.types import Positive, ProblemBody, RefText
from service.catalog.routing import MAX_STICKY_KEY_CHARS
from service.inference.predictions import Classification, Prediction


def _check_item(value: object) -> object:
    """One message where pydantic would have one for each kind of item."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise ValueError("expected a string, or an object whose values are strings")


Item = Annotated[str | dict[str, str], BeforeValidator(_check_item)]


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Items = Annotated[list[Item], Field(min_length=1)]
Inputs = Annotated[Items, BeforeValidator(_as_list, json_schema_input_type=Item | Items)]


class ClassifyRequest(BaseModel):
    """One input or a list of them; an input is a string (tasks with one field) or an object of the task's fields."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
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
    )

    inputs: Inputs
    truncate: Literal["error", "start", "end"] = "error"
    top_k: Positive | None = None
    """How many of the best labels to answer; left out, all of up to 20, else 5."""
    timeout_ms: Positive | None = None
    sticky_key: Annotated[str, Field(min_length=1, max_length=MAX_STICKY_KEY_CHARS)] | None = None
    """Requests with the same key get the same version while a canary has a share of the task; a user's id, say."""


class ClassifyResponse(BaseModel):
    """The answers in the order of the inputs, and the version that gave them all."""

    task: str
    version: int
    adapter: str
    backbone: str
    predictions: list[Prediction]

    @classmethod
    def of(cls, classification: Classification, backbone: str) -> "ClassifyResponse":
        return cls(
            task=classification.resolution.task,
            version=classification.resolution.version,
            adapter=classification.resolution.digest,
            backbone=backbone,
            predictions=classification.predictions,
        )


class FanOutRequest(ClassifyRequest):
    """The same inputs for several tasks: a string fits every task with one field, an object those with its fields."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tasks": ["sst2", "sst2@2"], "inputs": ["a gripping film"]}]}
    )

    tasks: Annotated[list[RefText], Field(min_length=1)]
    """Refs; each is answered as `POST /classify/{ref}` would."""


class FanOutAnswer(ClassifyResponse):
    """What `POST /classify/{ref}` answers."""

    ref: str
    """As the caller wrote it."""


class FanOutRefusal(BaseModel):
    """Why this task has no answer; the others have theirs."""

    ref: str
    problem: "ProblemBody"


class FanOutResponse(BaseModel):
    """The results in the order of `tasks`."""

    results: list[FanOutAnswer | FanOutRefusal]
