"""The JSON of Text Embeddings Inference's routes."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from service.api.schemas.types import Positive, RequestSchema, Schema
from service.inference.predictions import Prediction

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation"]


class TeiError(Schema):
    """An error in TEI's format."""

    error: str
    error_type: ErrorType


class PipelineParameters(RequestSchema):
    """Parameters of `transformers` pipelines, as `huggingface_hub.InferenceClient` sends them."""

    top_k: Positive | None = None
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """`softmax` for a task with one label per text, `sigmoid` for a multi-label task; by default the task's own."""


def _check_inputs(value: object) -> object:
    """Check the inputs with one error message; pydantic would give one for each member of the union."""
    sequences = [[value]] if isinstance(value, str) else _sequences(value)
    if sequences and all(len(texts) in (1, 2) and all(isinstance(text, str) for text in texts) for texts in sequences):
        return value
    raise ValueError("expected a string, a list of one or two strings, or a list of such lists")


def _sequences(value: object) -> list[list[object]]:
    if not isinstance(value, list):
        return []
    if all(isinstance(entry, list) for entry in value):
        return value
    return [value]


Texts = Annotated[list[str], Field(min_length=1, max_length=2)]
Inputs = Annotated[str | Texts | Annotated[list[Texts], Field(min_length=1)], BeforeValidator(_check_inputs)]


class PredictRequest(
    RequestSchema,
    json_schema_extra={"examples": [{"inputs": "a gripping film"}, {"inputs": [["a gripping film"], ["too long"]]}]},
):
    """A text, a list with one text or the two texts of a pair, or a batch of such lists."""

    inputs: Inputs
    truncate: bool = False
    """Cut texts over the task's limit; by default such a text is an error."""
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    raw_scores: bool = False
    """Return log-probabilities before calibration instead of calibrated probabilities."""
    parameters: PipelineParameters | None = None
    """If given, even empty, the response has the format of a pipeline: one list per input, also for a single input."""

    @property
    def sequences(self) -> list[tuple[str, ...]]:
        """The texts of each input, in the order of the task's fields."""
        if isinstance(self.inputs, str):
            return [(self.inputs,)]
        batch = [texts for texts in self.inputs if isinstance(texts, list)]
        return [tuple(texts) for texts in batch] or [tuple(str(text) for text in self.inputs)]

    @property
    def is_batch(self) -> bool:
        """Whether the response has one list per input."""
        return isinstance(self.inputs, list) and isinstance(self.inputs[0], list)


class Scored(Schema):
    label: str
    score: float

    @classmethod
    def listed(cls, prediction: Prediction, *, raw: bool = False) -> list[Self]:
        """Return a prediction's labels, best first, with their scores or, if `raw`, with their log-probabilities."""
        values = prediction.logprobs if raw else prediction.scores
        return [cls(label=label, score=score) for label, score in values.items()]


Scores = list[Scored] | list[list[Scored]]
"""The labels of the only text, or of each."""


class LabelIds(Schema):
    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(Schema):
    classifier: LabelIds


class Info(Schema):
    """The fields that TEI's clients read of a model, filled in for one task."""

    model_id: str
    """The ref as given."""
    model_sha: str
    """Digest of the version."""
    model_dtype: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
