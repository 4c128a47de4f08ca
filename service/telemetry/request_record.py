"""Per-request record, filled in along the way and read by logs, metrics and traces.

It travels in a context variable, so that nothing between the HTTP layer and the registry has to pass it on.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field

from adapters import Resolution
from service.catalog.instrumented import RegistryCall
from service.inference.predictions import Classification


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """The end of a request, as its span reports it."""

    method: str
    route: str
    status: int
    request_id: str


@dataclass(slots=True)
class RequestRecord:
    """Everything known about one request. Of a caller's inventions only its request id: unknown refs are not here."""

    request_id: str | None = None
    """Made here, or given by the caller in `X-Request-ID`; None outside a request."""
    tenant: str | None = None
    """The owner of the caller's key, or the default tenant of a server without keys."""
    key: str | None = None
    """The id of the caller's key, even if it was refused; None if no key has that id."""
    resolved: list[Resolution] = field(default_factory=list)
    """The versions that the caller's refs name."""
    answered: list[Classification] = field(default_factory=list)
    error: Exception | None = None
    """The error that ended the request."""
    code: str | None = None
    """The error's stable code."""
    calls: list[RegistryCall] = field(default_factory=list)
    """Calls to the registry that the request waited for."""


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("superpos_request_record", default=None)


def begin_record(request_id: str) -> RequestRecord:
    """Start the record of a request that begins in this asyncio task."""
    record = RequestRecord(request_id)
    _CURRENT.set(record)
    return record


def current_record() -> RequestRecord:
    """Return the current request's record, or a throwaway one outside a request."""
    return _CURRENT.get() or RequestRecord()
