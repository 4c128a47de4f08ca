"""Paged search of a registry's log, bounded in memory and time for logs of any length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.registry.protocol import Change, Registry

_PAGE = 500
_MAX_PAGES = 10
"""Limit of one search: 0.5 s in Redis."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """The matching entries in a stretch of the log."""

    entries: Sequence[Change]
    """Oldest first."""
    position: int
    """The last position read, from which to continue."""
    complete: bool
    """Whether the end of the log was reached; false also if the limit was."""


def read_log(
    registry: Registry, *, since: int, limit: int, wanted: Callable[[Change], bool] = lambda change: True
) -> LogPart:
    """Return at most `limit` wanted entries after a position. Blocking.

    Raises:
        RegistryUnavailable: the store cannot be reached
    """
    found: list[Change] = []
    for _ in range(_MAX_PAGES):
        page = registry.changes(since, limit=_PAGE)
        for change in page:
            since = change.position
            if wanted(change):
                found.append(change)
            if len(found) == limit:
                return LogPart(found, since, complete=False)
        if len(page) < _PAGE:
            return LogPart(found, since, complete=True)
    return LogPart(found, since, complete=False)


def task_log(registry: Registry, tenant: str, task: str, *, since: int, limit: int) -> LogPart:
    """Search the log for entries of one task, like `read_log`."""
    return read_log(
        registry, since=since, limit=limit, wanted=lambda change: (change.tenant, change.task) == (tenant, task)
    )
