"""Selects the log entries that can be removed: those that neither the present state nor the recent history needs.

The remaining entries replay to the same state, with the same rollback targets for every alias, so a trimmed log is a
snapshot followed by history. The removal is an entry too, `log_trimmed`. Its version is the position up to which
entries are missing; a reader that had not reached that position reads the log again from its beginning.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from adapters.registry.protocol import NO_TRAFFIC, Change
from adapters.registry.rollback import TaskHistory

_MAX_REMOVED = 5_000
"""Entries removed in one step, or a few more: it blocks Redis for 10 to 30 ms."""
_MAX_STEPS = 20
_PAGE = 100
"""Entries read, or planned for, between two pauses: about a millisecond of work."""


class ReadChanges(Protocol):
    """A registry's `changes`."""

    def __call__(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]: ...


@dataclass(frozen=True, slots=True)
class Trim:
    """Entries to be removed together."""

    positions: Sequence[int]
    """In ascending order."""
    horizon: int
    """The last position of these entries and of those that were removed before, former `log_trimmed` excluded."""
    marker: int
    """Position of the last `log_trimmed` that the log had; 0 if it had none."""
    end: int
    """Position of the last entry that the log had."""

    def then(self, removable: Sequence[int]) -> "Trim":
        """Return the removal of these entries and of others, none of them a `log_trimmed`."""
        return replace(self, positions=sorted([*self.positions, *removable]), horizon=max(self.horizon, removable[-1]))


def trim_in_steps(
    read: ReadChanges,
    remove: Callable[[Trim], int | None],
    *,
    last_trim: Callable[[], int],
    keep: int,
    pause: Callable[[], None],
) -> int:
    """Remove the entries that a log does not need, at most 100,000, and return how many were removed.

    Args:
        read: the registry's `changes`
        remove: removes entries and adds `log_trimmed` in one write; returns the position of that entry, or None if
            another process has trimmed the log since it was read
        last_trim: returns the position of the last `log_trimmed`, or 0; pages between which it changes are not of one
            state, and nothing is removed
        keep: as for `removable_entries`
        pause: called after each page of work, so that other threads can work
    """
    before = last_trim()
    log: list[Change] = []
    while page := read(log[-1].position if log else 0, limit=_PAGE):
        log += page
        pause()
    if not log or last_trim() != before:
        return 0
    removed, trim = 0, _of_markers(log)
    for removable in islice(removable_entries(log, keep=keep, pause=pause), _MAX_STEPS):
        trim = trim.then(removable)
        position = remove(trim)
        if position is None:
            break
        pause()
        removed += len(trim.positions)
        trim = replace(trim, positions=[position], marker=position, end=position)
    return removed


def _of_markers(log: Sequence[Change]) -> Trim:
    """Return the removal of the markers alone."""
    markers = [change for change in log if change.kind == "log_trimmed"]
    last = markers[-1] if markers else None
    positions = [change.position for change in markers]
    return Trim(positions, last.version if last else 0, last.position if last else 0, log[-1].position)


def removable_entries(
    log: Sequence[Change], *, keep: int, pause: Callable[[], None] = lambda: None
) -> Iterator[list[int]]:
    """Yield the positions of entries that can be removed together, about `_MAX_REMOVED` at most, in ascending order.

    Which entries are needed depends on where the log ends. So the log is read until enough of its entries are
    superseded, and those are removed that a log which ended there would not need; then reading continues.

    Args:
        log: all entries, oldest first
        keep: number of each tenant's latest entries that are never removed
        pause: called after each page of work
    """
    recent = _recent(_paced(reversed(log), pause), keep)
    state: dict[tuple[str, str], _Needed] = {}
    left: list[int] = []
    num_needed = 0
    for change in _paced(log, pause):
        if change.kind == "log_trimmed" or change.position in recent:
            continue
        of_task = state.setdefault((change.tenant, change.task), _Needed())
        before = len(of_task)
        of_task.apply(change)
        num_needed += len(of_task) - before
        left.append(change.position)
        if len(left) - num_needed >= _MAX_REMOVED:
            removable, left = _divided(left, state)
            pause()
            yield removable
    removable, _ = _divided(left, state)
    pause()
    if removable:
        yield removable


def is_behind(position: int, changes: Iterable[Change]) -> bool:
    """Return whether entries after `position` have been removed, according to the entries that follow it."""
    return any(change.kind == "log_trimmed" and change.version > position for change in changes)


def _paced(log: Iterable[Change], pause: Callable[[], None]) -> Iterator[Change]:
    """Yield the entries, with a pause after each page."""
    for number, change in enumerate(log, start=1):
        yield change
        if number % _PAGE == 0:
            pause()


def _recent(latest_first: Iterable[Change], keep: int) -> set[int]:
    """Return the positions of each tenant's last entries."""
    counts: Counter[str] = Counter()
    recent = set()
    for change in latest_first:
        counts[change.tenant] += 1
        if counts[change.tenant] <= keep:
            recent.add(change.position)
    return recent


def _divided(positions: Sequence[int], state: "Mapping[tuple[str, str], _Needed]") -> tuple[list[int], list[int]]:
    """Return the positions that the state does not need, and those that it does."""
    needed = {position for of_task in state.values() for position in of_task.positions()}
    return [each for each in positions if each not in needed], [each for each in positions if each in needed]


@dataclass(slots=True)
class _Needed:
    """Positions of the entries that the state of one task needs."""

    versions: dict[int, int] = field(default_factory=dict)
    history: TaskHistory = field(default_factory=TaskHistory)
    """The versions that each alias can go back to."""
    traffic: int | None = None

    def apply(self, change: Change) -> None:
        self.history.apply(change)
        match change.kind:
            case "published":
                self.versions[change.version] = change.position
            case "version_deleted":
                self.versions.pop(change.version, None)
            case "traffic_set":
                self.traffic = None if change.traffic in (None, NO_TRAFFIC) else change.position
            case "alias_set" | "alias_deleted" | "log_trimmed":
                pass

    def __len__(self) -> int:
        return len(self.versions) + len(self.history) + (self.traffic is not None)

    def positions(self) -> Iterator[int]:
        yield from self.versions.values()
        yield from self.history.positions()
        if self.traffic is not None:
            yield self.traffic
