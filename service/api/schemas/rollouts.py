"""The JSON of rollouts: traffic, rollback, promotion."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from adapters import PRODUCTION, Traffic
from adapters.names import ALIAS_PATTERN
from adapters.registry.rollouts import Promotion
from service.api.schemas.types import VersionNumber


class TrafficBody(BaseModel):
    """How a task's bare name is answered besides its `production` version."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"canary": 2, "percent": 10}, {"shadow": 2}]}
    )

    canary: VersionNumber | None = None
    """The version that answers `percent` of the requests."""
    percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Of the sticky keys that callers give, and of the requests without one."""
    shadow: VersionNumber | None = None
    """The version that computes the same rows, whose answers are only counted."""

    @classmethod
    def of(cls, traffic: Traffic) -> "TrafficBody":
        return cls(canary=traffic.canary, percent=traffic.percent, shadow=traffic.shadow)

    def traffic(self) -> Traffic:
        """What the registry keeps (`InvalidTraffic` for a percentage of nothing)."""
        return Traffic(self.canary, self.percent, self.shadow)


class RollbackRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"expected": 2}]})

    alias: Annotated[str, Field(json_schema_extra={"pattern": f"^{ALIAS_PATTERN}$"})] = PRODUCTION
    expected: VersionNumber | None = None
    """The version to leave; where the alias points elsewhere by now, nothing is moved."""


class MoveBody(BaseModel):
    """An alias from one version to another."""

    task: str
    alias: str
    previous: int | None
    version: int


class PromoteRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"version": 2}, {"version": 2, "force": True}]}
    )

    version: VersionNumber
    metric: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The figure of the cards to compare; left out, the one that production's training went by."""
    force: bool = False
    """Promote whatever the cards say."""


class PromotionBody(MoveBody):
    metric: str | None
    """The figure that let the version pass; null where it was forced."""

    @classmethod
    def of(cls, task: str, done: Promotion) -> "PromotionBody":
        move = done.move
        return cls(task=task, alias=move.alias, previous=move.previous, version=move.version, metric=done.metric)
