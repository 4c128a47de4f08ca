"""What is known of a request while it is worked on: gathered by whoever learns it, told by logs, metrics and traces.

The request travels as a context variable, so that nothing between the HTTP layer and the registry has to pass it on.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adapters import Resolution

if TYPE_CHECKING:
    from service.classifier import Classification
    from service.observed_registry import RegistryCall


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended, as its span tells it."""

    method: str
    route: str
    status: int
    request_id: str


@dataclass(slots=True)
class Facts:
    """One request's. Nothing that a caller made up: refs that mean nothing never come here."""

    tenant: str | None = None
    """Known by the caller's key, or as the one tenant there is."""
    resolved: list[Resolution] = field(default_factory=list)
    """What the caller's refs mean, of those that mean something."""
    answered: list["Classification"] = field(default_factory=list)
    error: Exception | None = None
    """What the request was refused for."""
    code: str | None = None
    """Its stable code."""
    calls: list["RegistryCall"] = field(default_factory=list)
    """Of the registry, while somebody waited for them."""


_CURRENT: ContextVar[Facts | None] = ContextVar("superpos_facts", default=None)


def begin_facts() -> Facts:
    """Those of a request that begins in this task."""
    facts = Facts()
    _CURRENT.set(facts)
    return facts


def current_facts() -> Facts:
    """Those of the request that this task works for; what is noted without one is forgotten."""
    return _CURRENT.get() or Facts()
