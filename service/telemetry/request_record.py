"""What is known of a request while it is worked on: gathered by whoever learns it, told by logs, metrics and traces.

The request travels as a context variable, so that nothing between the HTTP layer and the registry has to pass it on.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field

from adapters import Resolution
from service.catalog.instrumented import RegistryCall
from service.inference.predictions import Classification


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """How a request ended, as its span tells it."""

    method: str
    route: str
    status: int
    request_id: str


@dataclass(slots=True)
class RequestRecord:
    """One request's. Nothing that a caller made up: refs that mean nothing never come here."""

    tenant: str | None = None
    """Known by the caller's key, or as the one tenant there is."""
    resolved: list[Resolution] = field(default_factory=list)
    """What the caller's refs mean, of those that mean something."""
    answered: list[Classification] = field(default_factory=list)
    error: Exception | None = None
    """What the request was refused for."""
    code: str | None = None
    """Its stable code."""
    calls: list[RegistryCall] = field(default_factory=list)
    """Of the registry, while somebody waited for them."""


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("superpos_request_record", default=None)


def begin_record() -> RequestRecord:
    """Those of a request that begins in this task."""
    record = RequestRecord()
    _CURRENT.set(record)
    return record


def current_record() -> RequestRecord:
    """Those of the request that this task works for; what is noted without one is forgotten."""
    return _CURRENT.get() or RequestRecord()
