"""The JSON of what was done to tasks."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from adapters import Change, PromptAdapter, TaskInfo, TaskSpec, VersionInfo
from adapters.adapter import BackboneRef, Calibration, Provenance
from adapters.profile import ValidationProfile
from adapters.registry.log_reading import LogPart
from adapters.registry.protocol import ChangeKind
from service.api.schemas.rollouts import TrafficBody
from service.api.schemas.types import VersionNumber
from service.monitoring.drift import DriftReport
from service.monitoring.shadow_report import ShadowReport


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


class ChangeBody(BaseModel):
    """Who did what to which task, and when."""

    position: int
    at: datetime
    actor: str
    action: ChangeKind
    tenant: str
    task: str
    version: int | None
    """Null, like `adapter`, where the task's traffic was set."""
    adapter: str | None
    alias: str | None
    traffic: TrafficBody | None

    @classmethod
    def of(cls, change: Change) -> Self:
        return cls(
            position=change.position,
            at=change.at,
            actor=change.actor,
            action=change.kind,
            tenant=change.tenant,
            task=change.task,
            version=change.version or None,
            adapter=change.digest or None,
            alias=change.alias,
            traffic=None if change.traffic is None else TrafficBody.of(change.traffic),
        )


class ChangeLog(BaseModel):
    """Entries after `since`, oldest first."""

    entries: list[ChangeBody]
    position: int
    """How far the log was read: ask on with this as `since`. A part of a long log may have no entries."""
    complete: bool
    """True where that is the log's end for now; false where more may follow."""

    @classmethod
    def of(cls, part: LogPart) -> Self:
        entries = [ChangeBody.of(change) for change in part.entries]
        return cls(entries=entries, position=part.position, complete=part.complete)
