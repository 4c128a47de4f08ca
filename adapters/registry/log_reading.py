"""Reading a registry's log for some of its entries, in parts: bounded in memory and time, however long it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.registry.protocol import Change, Registry

_PAGE = 500
_MAX_PAGES = 10
"""Maximum number of entries per reading: 0.5 s in Redis."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Entries found in a part of the log."""

    entries: Sequence[Change]
    """Oldest first."""
    position: int
    """How far the log was read: where to read on."""
    complete: bool
    """True where that was its end; a reading that found as many as it wanted has not looked for more."""


def read_log(
    registry: Registry, *, since: int, limit: int, wanted: Callable[[Change], bool] = lambda change: True
) -> LogPart:
    """The entries after a position that are wanted, `limit` at most; blocking.

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
    """As `read_log`, of one task."""
    return read_log(
        registry, since=since, limit=limit, wanted=lambda change: (change.tenant, change.task) == (tenant, task)
    )
