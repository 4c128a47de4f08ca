"""Paged search of a log, bounded in memory and time for logs of any length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from adapters.registry.protocol import Change, Registry

_PAGE = 100
"""Entries read at a time, some milliseconds of work."""
_MAX_PAGES = 50
"""Limit of one search: 0.5 s in Redis."""


class Entry(Protocol):
    """An entry of a log."""

    @property
    def position(self) -> int: ...


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class LogPart(Generic[E]):
    """The matching entries in a stretch of a log."""

    entries: Sequence[E]
    """Oldest first."""
    position: int
    """The last position read, from which to continue."""
    complete: bool
    """Whether the end of the log was reached; false also if the limit was."""


def search_log(
    read: Callable[[int, int], Sequence[E]],
    *,
    since: int,
    limit: int,
    wanted: Callable[[E], bool] = lambda entry: True,
    pause: Callable[[], None] = lambda: None,
) -> LogPart[E]:
    """Return at most `limit` wanted entries after a position. Blocking.

    Args:
        read: returns the entries after a position, oldest first, and at most the given number
        pause: called after each page, so that other threads can work
    """
    found: list[E] = []
    for _ in range(_MAX_PAGES):
        page = read(since, _PAGE)
        pause()
        for entry in page:
            since = entry.position
            if wanted(entry):
                found.append(entry)
            if len(found) == limit:
                return LogPart(found, since, complete=False)
        if len(page) < _PAGE:
            return LogPart(found, since, complete=True)
    return LogPart(found, since, complete=False)


def read_log(
    registry: Registry,
    *,
    since: int,
    limit: int,
    wanted: Callable[[Change], bool] = lambda change: True,
    pause: Callable[[], None] = lambda: None,
) -> LogPart[Change]:
    """Return at most `limit` wanted entries of a registry's log after a position. Blocking.

    Raises:
        RegistryUnavailable: the store cannot be reached
    """
    return search_log(
        lambda after, most: registry.changes(after, limit=most), since=since, limit=limit, wanted=wanted, pause=pause
    )


def task_log(
    registry: Registry, tenant: str, task: str, *, since: int, limit: int, pause: Callable[[], None] = lambda: None
) -> LogPart[Change]:
    """Search the log for entries of one task, like `read_log`."""

    def is_wanted(change: Change) -> bool:
        return (change.tenant, change.task) == (tenant, task)

    return read_log(registry, since=since, limit=limit, wanted=is_wanted, pause=pause)
