"""`Attack`: one attack as a value, and the classes of fault that attacks belong to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from verification.attack.arena import Arena

Identity = Literal["nobody", "tenant", "admin"]
"""The attacker: a client without a key, a tenant's `classify` or `publish` key, or a tenant's `admin` key."""
Evidence = str | None
"""Proof that an attack succeeded; None if it did not."""


class Fault(Enum):
    """The classes of fault."""

    VALIDATION = "unbounded validation work"
    CONTENT = "a content address that is not of the content"
    CONNECTIONS = "no budget for connections"
    ROLES = "a role that is root everywhere"
    TOMBSTONES = "deletion without a tombstone"
    ERRORS = "errors that no caller asked for"
    COST = "cost not charged where it arises"
    LINKS = "links followed"
    CACHE = "a cache that reveals"
    ROUTES = "limits by the look of a path"
    PERMISSIONS = "permissions hoped for"
    TRACES = "callers that cannot be traced"
    TEXT = "text that acts"
    GROWTH = "growth outside quotas"
    SEARCH = "work that is not bounded where it is charged"
    LOOPS = "background loops that die quietly"
    WRITES = "two writes with nothing between them"
    MEMORY = "memory in no budget"
    REFUSED = "charged for what was refused"
    HEADERS = "headers that help an attacker"


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack: who does what, and how its success is judged."""

    name: str
    fault: Fault
    identity: Identity
    does: str
    succeeds: str
    """The attack's own criterion of success, besides what is watched during every attack."""
    run: Callable[[Arena], Evidence]
    """Attacks once and returns the evidence of a success."""
    repeats: bool = True
    """Whether it is repeated while the neighbour's waiting time is measured."""
    is_long: bool = False
    """Whether it waits for deadlines, stops parts of the platform or computes for seconds: not in the short form."""
    disturbs: bool = False
    """Whether it stops a part of the platform itself, so that the neighbour's requests may fail meanwhile."""
    store: Literal["sqlite", "redis"] | None = None
    """The only store that it concerns; None for both."""
