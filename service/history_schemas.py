"""The JSON of what was done to tasks."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel

from adapters import Change
from adapters.log_reading import LogPart
from adapters.registry import ChangeKind
from service.rollout_schemas import TrafficBody


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
