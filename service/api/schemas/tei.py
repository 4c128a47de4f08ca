"""The JSON of Text Embeddings Inference's routes."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.schemas.types import Positive

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation"]


class TeiError(BaseModel):
    """How TEI says an error."""

    error: str
    error_type: ErrorType


class PipelineParameters(BaseModel):
    """What `huggingface_hub.InferenceClient` sends beside the inputs, in the words of `transformers`' pipelines."""

    model_config = ConfigDict(extra="forbid", strict=True)

    top_k: Positive | None = None
    function_to_apply: Literal["softmax", "none"] | None = None


def _check_inputs(value: object) -> object:
    """One message where pydantic would have one for each form."""
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


class PredictRequest(BaseModel):
    """A text, a list of one text or of a pair's two, or a batch of such lists."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"inputs": "a gripping film"}, {"inputs": [["a gripping film"], ["too long"]]}]
        },
    )

    inputs: Inputs
    truncate: bool = False
    """Cut texts over the task's limit, which are an error otherwise."""
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"
    raw_scores: bool = False
    """Log-probabilities before calibration instead of calibrated probabilities."""
    parameters: PipelineParameters | None = None
    """With these, even empty, the answer is a pipeline's: a list for each input, also for a single one."""

    @property
    def sequences(self) -> list[tuple[str, ...]]:
        """Each input's texts, in the order of its task's fields."""
        if isinstance(self.inputs, str):
            return [(self.inputs,)]
        batch = [texts for texts in self.inputs if isinstance(texts, list)]
        return [tuple(texts) for texts in batch] or [tuple(str(text) for text in self.inputs)]

    @property
    def is_batch(self) -> bool:
        """Whether the answer is a list for each input."""
        return isinstance(self.inputs, list) and isinstance(self.inputs[0], list)


class Scored(BaseModel):
    label: str
    score: float


class LabelIds(BaseModel):
    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(BaseModel):
    classifier: LabelIds


class Info(BaseModel):
    """What TEI's clients read of a model: the task, its version's digest, labels and limits."""

    model_id: str
    model_sha: str
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
