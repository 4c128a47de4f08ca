"""The JSON of `/tasks`."""

from datetime import datetime
from typing import Annotated

from pydantic import AliasChoices, BeforeValidator, Field

from adapters import PromptAdapter, TaskSpec
from adapters.adapter import BackboneRef, Provenance
from adapters.calibration import Calibration
from adapters.profile import ValidationProfile
from adapters.readout import ReadoutKind
from adapters.registry.protocol import ChangeKind
from service.api.schemas.rollouts import TrafficBody
from service.api.schemas.types import RequestSchema, Schema, VersionNumber
from service.monitoring.drift import DriftReport
from service.monitoring.shadow_report import ShadowReport

# read from a domain value or from JSON
_DIGEST = Field(validation_alias=AliasChoices("digest", "adapter"))
_KIND = Field(validation_alias=AliasChoices("kind", "action"))
_NULL_IF_EMPTY = BeforeValidator(lambda value: value or None)


class VersionBody(Schema):
    version: int
    adapter: Annotated[str, _DIGEST]
    created_at: datetime
    actor: str


class TaskSummary(Schema):
    task: str
    aliases: dict[str, int]
    traffic: TrafficBody
    versions: list[VersionBody]


class TaskList(Schema):
    """A part of the tenant's tasks, in the order of their names."""

    tasks: list[TaskSummary]
    total: int
    """Number of tasks, in all parts."""
    cursor: str | None
    """For the next part; null at the end."""


class AdapterBody(Schema):
    """Contents of one version."""

    version: int
    adapter: str
    spec: TaskSpec
    num_virtual_tokens: int
    """Length of the prompt; 0 for an adapter with only a readout."""
    readout: ReadoutKind
    """How labels are scored: by the label words, or by learned label vectors."""
    backbone: BackboneRef
    calibration: Calibration
    provenance: Provenance
    validation: ValidationProfile | None
    """Its answers on the held-out rows, if they were recorded."""

    @classmethod
    def of(cls, version: int, adapter: PromptAdapter) -> "AdapterBody":
        """Build the body."""
        return cls(
            version=version,
            adapter=adapter.digest,
            spec=adapter.spec,
            num_virtual_tokens=adapter.num_virtual_tokens,
            readout=adapter.manifest.readout,
            backbone=adapter.manifest.backbone,
            calibration=adapter.manifest.calibration,
            provenance=adapter.manifest.provenance,
            validation=adapter.manifest.validation,
        )


class TaskDetail(TaskSummary):
    current: AdapterBody | None
    """The production version, if there is one."""
    drift: DriftReport | None
    """Its answers of the last hour compared with those on its held-out rows, if the latter were recorded."""
    shadows: list[ShadowReport]
    """Answers of shadow versions compared with those that clients got; the latest version first."""


class FileList(Schema):
    files: list[str]


class PublishResponse(Schema):
    task: str
    version: int
    adapter: str
    created: bool
    """False if the task already had this adapter: only the aliases that were named moved."""


class AliasRequest(RequestSchema, json_schema_extra={"examples": [{"version": 2}, {"version": 3, "expected": 2}]}):
    version: VersionNumber
    expected: VersionNumber | None = None
    """The version that the alias must point at now; by default any."""


class AliasBody(Schema):
    task: str
    alias: str
    version: int
    adapter: str


class ChangeBody(Schema):
    """Entry of the registry's log: who did what to which task, and when."""

    position: int
    at: datetime
    actor: str
    action: Annotated[ChangeKind, _KIND]
    tenant: str
    task: str
    version: Annotated[int | None, _NULL_IF_EMPTY]
    """Null, like `adapter`, if the task's traffic was set."""
    adapter: Annotated[str | None, _NULL_IF_EMPTY, _DIGEST]
    alias: str | None
    traffic: TrafficBody | None


class ChangeLog(Schema):
    """Entries after `since`, oldest first."""

    entries: list[ChangeBody]
    position: int
    """Last position that was read: pass it as `since` to continue. A part of a long log may have no entries."""
    complete: bool
    """True if this is the end of the log for now."""
