"""`Attack`: one attack as a value, and the classes of fault that attacks belong to."""

from collections.abc import Callable, Iterable
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
    CONTENT = "content addresses that do not match the content"
    CONNECTIONS = "unbounded connections"
    ROLES = "privilege escalation"
    TOMBSTONES = "deletion that is undone"
    ERRORS = "unhandled errors"
    COST = "uncharged cost"
    LINKS = "links followed"
    CACHE = "cache leaks"
    ROUTES = "limits chosen by the path text"
    PERMISSIONS = "file permissions and exposed secrets"
    TRACES = "untraceable callers"
    TEXT = "terminal, log and page injection"
    GROWTH = "storage growth outside quotas"
    SEARCH = "work that exceeds its charge"
    LOOPS = "background tasks that die silently"
    WRITES = "non-atomic writes"
    MEMORY = "unbounded memory"
    REFUSED = "charges for refused requests"
    HEADERS = "information disclosure"


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack: who does what, and how its success is judged."""

    name: str
    fault: Fault
    identity: Identity
    does: str
    succeeds: str
    """The attack's own criterion of success, besides the general ones of a campaign."""
    run: Callable[[Arena], Evidence]
    """Attacks once and returns the evidence of a success."""
    repeats: bool = True
    """Whether it is repeated while the neighbour's waiting time is measured."""
    is_long: bool = False
    """Whether it waits for deadlines, stops parts of the platform or computes for seconds: not in the short form."""
    disturbs: bool = False
    """Whether it stops a part of the platform itself, so that the neighbour's requests may fail meanwhile."""
    store: Literal["sqlite", "redis"] | None = None
    """The only store that it applies to; None for both."""


def first(evidence: Iterable[Evidence]) -> Evidence:
    """Return the first evidence, if there is any; what follows it is not computed."""
    return next((each for each in evidence if each is not None), None)
