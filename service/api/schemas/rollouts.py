"""The JSON of traffic splits, rollback and promotion."""

from typing import Annotated, Self

from pydantic import Field

from adapters import PRODUCTION, Traffic
from adapters.names import ALIAS_PATTERN
from adapters.registry.rollouts import Promotion
from service.api.schemas.types import RequestSchema, Schema, VersionNumber


class TrafficBody(RequestSchema, json_schema_extra={"examples": [{"canary": 2, "percent": 10}, {"shadow": 2}]}):
    """Versions that serve a task's bare name in addition to its `production` version."""

    canary: VersionNumber | None = None
    """The version that answers `percent` of the requests."""
    percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Share of the sticky keys, and of the requests without one."""
    shadow: VersionNumber | None = None
    """The version that computes the same rows; its answers are counted, not returned."""

    def traffic(self) -> Traffic:
        """Return the domain value (`InvalidTraffic` for a percentage without a canary)."""
        return Traffic(self.canary, self.percent, self.shadow)


class RollbackRequest(RequestSchema, json_schema_extra={"examples": [{}, {"expected": 2}]}):
    alias: Annotated[str, Field(json_schema_extra={"pattern": f"^{ALIAS_PATTERN}$"})] = PRODUCTION
    expected: VersionNumber | None = None
    """The version that the alias must point at now; otherwise nothing is moved."""


class MoveBody(Schema):
    """An alias moved from one version to another."""

    task: str
    alias: str
    previous: int | None
    """Null if the alias is new."""
    version: int


class PromoteRequest(RequestSchema, json_schema_extra={"examples": [{"version": 2}, {"version": 2, "force": True}]}):
    version: VersionNumber
    metric: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name of the metric to compare; by default the one that production's training selected by."""
    force: bool = False
    """Promote without comparing metrics."""
    corrections: bool = False
    """Also compare the answers to the task's latest corrections, at most 500, which are charged as a request's: the
    version must answer more of them right than production."""
    expected: VersionNumber | None = None
    """The version that `production` must point at now; otherwise nothing is moved."""


class PromotionBody(MoveBody):
    metric: str | None
    """The metric that was compared; null if the promotion was forced."""
    paired: str | None
    """The difference of the accuracies row by row, if both versions record their answers to the same rows."""
    corrections: str | None
    """The difference on the corrections, if they were compared."""

    @classmethod
    def of(cls, task: str, done: Promotion) -> Self:
        """Build the body."""
        move = done.move
        return cls(
            task=task,
            alias=move.alias,
            previous=move.previous,
            version=move.version,
            metric=done.metric,
            paired=done.paired,
            corrections=done.corrections,
        )
