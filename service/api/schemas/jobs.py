"""The JSON of `/tasks/{task}/jobs` and `/jobs`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from adapters.names import NAME_PATTERN
from adapters.printable import RULE as PRINTABLE
from adapters.printable import is_printable
from adapters.task import MAX_LABELS, MAX_TASK_TOKENS, Kind
from service.api.schemas.classify import Item
from service.api.schemas.feedback import RightLabel
from service.api.schemas.types import MAX_VERSION, WHOLE, RequestSchema, Schema
from service.jobs.jobs import NewJob, TaskDefinition, spec_of
from service.jobs.models import Argument, CurvePoint, Job, JobResult, JobStatus, Progress

JOB_ID_PATTERN = r"[0-9a-f]{24}"
MAX_EPOCHS = 200
_OF_FILES = {
    "data": "the rows are those of the request",
    "sources": "a job starts from no other adapter",
}
"""Members of a task file or of its arguments that would name files or addresses."""

_LabelName = Annotated[str, Field(min_length=1, max_length=128)]
_LabelWords = Annotated[str, Field(min_length=1, max_length=512)]
Labels = (
    Annotated[list[_LabelName], Field(min_length=2, max_length=MAX_LABELS)]
    | Annotated[dict[_LabelName, _LabelWords], Field(min_length=2, max_length=MAX_LABELS)]
)
Metric = Literal["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "f1a", "micro_f1", "map"]


def _refuse_files(value: object) -> object:
    """Refuse what would make a trainer read a file or an address, and say why."""
    if isinstance(value, dict):
        for name, reason in _OF_FILES.items():
            if name in value:
                raise ValueError(f"{name!r} is not for training jobs: {reason}; they read no files and no addresses")
    return value


class TaskBody(RequestSchema):
    """A task as in a task file, without its rows."""

    template: Annotated[str, Field(min_length=1, max_length=10_000)]
    """Text with a `{field}` for each text of a row."""
    labels: Labels
    """Names of the labels in their order, or the words of each that the model generates."""
    max_tokens: Annotated[int, Field(ge=2, le=MAX_TASK_TOKENS), WHOLE] = 256
    truncation_side: Literal["start", "end"] = "end"
    kind: Kind = "single_label"
    description: Annotated[str, Field(max_length=2_000)] = ""
    metrics: Annotated[tuple[Metric, ...], Field(max_length=4, strict=False)] = ()
    """The score is their mean; by default accuracy, or micro_f1 of a multi-label task."""
    positive: _LabelName | None = None
    """The label that F1 refers to; by default the second of two."""

    _no_files = model_validator(mode="before")(_refuse_files)

    @field_validator("description")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not is_printable(text):
            raise ValueError(f"expected {PRINTABLE}")
        return text

    def definition(self) -> TaskDefinition:
        """Return the domain value (`InvalidRequest`)."""
        own = ("template", "max_tokens", "truncation_side", "kind")
        pairs = self.labels.items() if isinstance(self.labels, dict) else zip(self.labels, self.labels, strict=True)
        labels = [{"name": name, "words": words} for name, words in pairs]
        return TaskDefinition(
            spec=spec_of({name: getattr(self, name) for name in own} | {"labels": labels}),
            description=self.description,
            metrics=self.metrics,
            positive=self.positive,
        )


class ArgumentsBody(RequestSchema):
    """Training arguments, named as the options of `superpos train`; omitted ones have its defaults."""

    method: Literal["auto", "superpos", "simple", "residual", "dpt", "head"] | None = None
    """`auto`: train heads and SuperPos prompts, and keep what is best; `head`: fit label vectors, in seconds."""
    readout: Literal["auto", "words", "soft", "pooled", "joint"] | None = None
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS), WHOLE] | None = None
    max_steps: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = None
    batch_size: Annotated[int, Field(ge=1, le=256), WHOLE] | None = None
    lr: Annotated[float, Field(gt=0, le=100)] | None = None
    num_virtual_tokens: Annotated[int, Field(ge=1, le=50), WHOLE] | None = None
    num_sampled_tokens: Annotated[int, Field(ge=1, le=128), WHOLE] | None = None
    patience: Annotated[int, Field(ge=0, le=MAX_EPOCHS), WHOLE] | None = None
    class_weights: bool | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    abstain_precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=1 << 31), WHOLE] | None = None

    _no_files = model_validator(mode="before")(_refuse_files)


class RowBody(RequestSchema):
    """A text with its right label."""

    input: Item
    """A text, or an object with the task's fields."""
    label: RightLabel
    """A label of the task; for a multi-label task the list of all labels that the text has."""


Rows = Annotated[tuple[RowBody, ...], Field(strict=False)]


class JobRequest(
    RequestSchema,
    json_schema_extra={
        "examples": [
            {
                "task": {"template": "review: {text}", "labels": ["bad", "good"]},
                "rows": [
                    {"input": "a gripping film", "label": "good"},
                    {"input": "flat and overlong", "label": "bad"},
                ],
                "arguments": {"epochs": 5},
            },
            {"corrections_since": 1},
        ]
    },
):
    """A training: of a new task or of one that has a version, on rows, on examples, on corrections.

    A job reads nothing but this request and the tenant's own corrections.
    """

    task: TaskBody | None = None
    """The task; needed unless it has a version, or its labels come with `examples`."""
    rows: Rows = ()
    validation: Rows = ()
    """Rows to measure on; by default some of the others are held out."""
    examples: Annotated[dict[_LabelName, list[str]], Field(min_length=2, max_length=MAX_LABELS)] | None = None
    """Instead of rows: 8 to 20 texts of each label. Three heads are fitted in seconds; the best one is kept."""
    corrections_since: Annotated[int, Field(ge=0, le=MAX_VERSION), WHOLE] | None = None
    """Also train on the corrections since this version was published; 0 for all of them."""
    arguments: ArgumentsBody = ArgumentsBody()

    def job(self) -> NewJob:
        """Return the domain value (`InvalidRequest`)."""
        return NewJob(
            definition=None if self.task is None else self.task.definition(),
            rows=[(row.input, row.label) for row in self.rows],
            validation=[(row.input, row.label) for row in self.validation],
            examples=self.examples,
            corrections_since=self.corrections_since,
            arguments=self.arguments.model_dump(exclude_none=True),
        )


class JobResultBody(Schema):
    """The version that a job published."""

    version: int
    adapter: str
    """Its digest."""
    method: str
    readout: str
    metrics: dict[str, float]
    """Metrics on rows that nothing was fitted to, with their mean, `score`."""
    untrained_score: float
    baselines: dict[str, float]
    """Scores of simpler classifiers on the same rows."""

    @classmethod
    def of(cls, result: JobResult) -> Self:
        """Build the body."""
        return cls(
            version=result.version,
            adapter=result.digest,
            method=result.method,
            readout=result.readout,
            metrics=dict(result.metrics),
            untrained_score=result.untrained_score,
            baselines=dict(result.baselines),
        )


class JobBody(Schema):
    """A training job. Its rows are deleted when it ends."""

    id: str
    task: str
    status: JobStatus
    """`queued`, `running`, and then for ever `succeeded`, `failed` or `cancelled`."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    """The author of the job: `key:<id>`."""
    rows: int
    validation_rows: int
    corrections: int
    arguments: dict[str, Argument]
    max_s: float
    """Seconds that it may take."""
    spent_s: float
    attempts: int
    """Trainers that worked on it; more than one if one died."""
    progress: Progress | None
    error: str | None
    """Why it failed or was cancelled."""
    result: JobResultBody | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Build the body."""
        return cls(**_members(job))


class JobDetail(JobBody):
    """A training job with its learning curve so far."""

    curve: list[CurvePoint]
    """Evaluations on the selection rows, by run if the job trains several."""

    @classmethod
    def with_curve(cls, job: Job, curve: list[CurvePoint]) -> Self:
        """Build the body."""
        return cls(**_members(job), curve=curve)


class JobList(Schema):
    jobs: list[JobBody]
    """The latest first."""


def _members(job: Job) -> Mapping[str, Any]:
    return {
        "id": job.id,
        "task": job.task,
        "status": job.status,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "actor": job.actor,
        "rows": job.num_rows,
        "validation_rows": job.num_validation_rows,
        "corrections": job.num_corrections,
        "arguments": dict(job.arguments),
        "max_s": job.max_s,
        "spent_s": job.spent_s,
        "attempts": job.attempts,
        "progress": job.progress,
        "error": job.error,
        "result": None if job.result is None else JobResultBody.of(job.result),
    }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


TaskName = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
