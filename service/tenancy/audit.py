"""The audit log of tenants and keys as a whole: its bound, and what is searched for in all of it.

A caller that causes entries could push out those of others. Hence the bound is one per tenant and author: the
operators, the tenant's administrators, and the server, which writes samples of refused requests.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from service.tenancy.models import SERVER, AccountStore, AuditEntry

Author = Literal["operators", "administrators", "server"]

_PAGE = 100
"""Entries read at a time, some milliseconds of work."""
_MAX_EXCESS = 100_000
"""Entries that one search for excess entries returns."""


def author(entry: AuditEntry) -> Author:
    """Return who wrote an entry. An entry of an older server, without the actor's role, counts as operators'."""
    if entry.actor == SERVER:
        return "server"
    return "operators" if entry.role in (None, "operator") else "administrators"


@dataclass(frozen=True, slots=True)
class Excess:
    """An entry that is not among its author's latest."""

    position: int
    revoked: str | None
    """The key whose revocation it records."""


def excess_entries(store: AccountStore, *, keep: int, pause: Callable[[], None] = lambda: None) -> list[Excess]:
    """Return the entries of each tenant and author beyond the latest `keep`, at most 100,000, oldest first.

    Whatever other servers remove meanwhile, the latest are kept: the log is read once, and only positions are held.
    """
    positions: defaultdict[tuple[str, Author], array[int]] = defaultdict(lambda: array("q"))
    revoked: dict[int, str | None] = {}
    for entry in all_entries(store, pause=pause):
        positions[entry.tenant, author(entry)].append(entry.position)
        if entry.action == "key_revoked":
            revoked[entry.position] = entry.key
    excess = sorted(position for each in positions.values() for position in each[:-keep])
    return [Excess(position, revoked.get(position)) for position in excess[:_MAX_EXCESS]]


def was_revoked(store: AccountStore, key_id: str) -> bool:
    """Return whether the audit log has the revocation of a key, which may be older than tombstones."""
    return any((entry.action, entry.key) == ("key_revoked", key_id) for entry in all_entries(store))


def all_entries(store: AccountStore, *, pause: Callable[[], None] = lambda: None) -> Iterator[AuditEntry]:
    """Yield the whole audit log, oldest first; `pause` is called after each page, so that other threads can work."""
    since = 0
    while page := store.audit(since, limit=_PAGE):
        yield from page
        pause()
        since = page[-1].position
