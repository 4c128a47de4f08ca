"""The JSON of the native routes."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters import PromptAdapter, TaskInfo, TaskSpec, VersionInfo
from adapters.adapter import BackboneRef, Calibration, Provenance
from adapters.names import REF_PATTERN
from adapters.profile import ValidationProfile
from service.classifier import Classification
from service.drift import DriftReport
from service.json_numbers import Positive, VersionNumber
from service.predictions import Prediction
from service.rollout_schemas import TrafficBody
from service.routing import MAX_STICKY_KEY_CHARS
from service.self_test import SelfTest
from service.shadow_counts import ShadowReport

RefText = Annotated[str, Field(json_schema_extra={"pattern": f"^{REF_PATTERN}$"})]


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


class VersionBody(BaseModel):
    version: int
    adapter: str
    created_at: datetime
    actor: str

    @classmethod
    def of(cls, info: VersionInfo) -> "VersionBody":
        return cls(version=info.version, adapter=info.digest, created_at=info.created_at, actor=info.actor)


class TaskSummary(BaseModel):
    task: str
    aliases: dict[str, int]
    traffic: TrafficBody
    versions: list[VersionBody]

    @classmethod
    def of(cls, info: TaskInfo) -> "TaskSummary":
        return cls(
            task=info.task,
            aliases=dict(info.aliases),
            traffic=TrafficBody.of(info.traffic),
            versions=[VersionBody.of(version) for version in info.versions],
        )


class TaskList(BaseModel):
    tasks: list[TaskSummary]


class AdapterBody(BaseModel):
    """What a version is made of."""

    version: int
    adapter: str
    spec: TaskSpec
    num_virtual_tokens: int
    backbone: BackboneRef
    calibration: Calibration
    provenance: Provenance
    validation: ValidationProfile | None
    """What it answered on its held-out rows, where they were recorded."""

    @classmethod
    def of(cls, version: int, adapter: PromptAdapter) -> "AdapterBody":
        return cls(
            version=version,
            adapter=adapter.digest,
            spec=adapter.spec,
            num_virtual_tokens=adapter.num_virtual_tokens,
            backbone=adapter.manifest.backbone,
            calibration=adapter.manifest.calibration,
            provenance=adapter.manifest.provenance,
            validation=adapter.manifest.validation,
        )


class TaskDetail(TaskSummary):
    current: AdapterBody | None
    """The version that the bare task name means, where there is one."""
    drift: DriftReport | None
    """How its answers of the last hour differ from those on its held-out rows, where these were recorded."""
    shadows: list[ShadowReport]
    """How the answers of shadow versions differ from those that callers got; the latest first."""


class FileList(BaseModel):
    files: list[str]


class PublishResponse(BaseModel):
    task: str
    version: int
    adapter: str
    created: bool
    """False where the task had this very adapter already: only aliases that were named moved."""


class AliasRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"version": 2}, {"version": 3, "expected": 2}]}
    )

    version: VersionNumber
    expected: VersionNumber | None = None
    """The version that the alias must point at now; left out, it is moved whatever it is."""


class AliasBody(BaseModel):
    task: str
    alias: str
    version: int
    adapter: str


class Live(BaseModel):
    status: Literal["live"] = "live"


class SelfTestBody(BaseModel):
    """What the batch-invariance test at the start found."""

    rows: int
    batches: int
    max_difference: float
    """The largest |Δ log p| of a row between alone and in a batch; null where scores were no numbers."""
    tolerance: float
    bit_identical: bool

    @classmethod
    def of(cls, found: SelfTest | None) -> "SelfTestBody | None":
        if found is None:
            return None
        return cls(**asdict(found), bit_identical=found.bit_identical)


class Startup(BaseModel):
    status: Literal["starting", "started"]
    self_test: SelfTestBody | None


class Ready(BaseModel):
    status: Literal["ready", "not_ready"]
    reason: str | None
    """Why not: `draining`, or what is wrong with the model."""
    last_forward_age_s: float | None
    """Since a forward last gave scores, a caller's or, where none came, the model's own."""
    self_test: SelfTestBody | None
    backbone: BackboneRef
    precision: Literal["fp32", "int8", "bf16"]
    degraded: bool
    """The registry cannot be read: what was known goes on answering."""
    tasks: int
    resident_adapters: int
    tripped_adapters: int
    """Adapters that the circuit breaker refuses now."""
    queued_rows: int
    workers: int
    """Processes behind this port; the rest of this answer is about the one that got the request."""


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    request_id: str | None
