"""Selects the log entries that can be removed: those that neither the present state nor the recent history needs.

The remaining entries replay to the same state, with the same rollback targets for every alias, so a trimmed log is a
snapshot followed by history. The removal is an entry too, `log_trimmed`. Its version is the position up to which
entries are missing; a reader that had not reached that position reads the log again from its beginning.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from adapters.registry.protocol import NO_TRAFFIC, Change
from adapters.registry.rollback import TaskHistory

_MAX_REMOVED = 5_000
"""Entries removed in one step, which blocks Redis for 10 to 30 ms."""
_MAX_STEPS = 20


@dataclass(frozen=True, slots=True)
class Trim:
    """Entries to be removed together."""

    positions: Sequence[int]
    """In ascending order."""
    horizon: int
    """The last of them that is not a former `log_trimmed`."""
    marker: int
    """Position of the last `log_trimmed` that the log had; 0 if it had none."""
    end: int
    """Position of the last entry that the log had."""


def trim_in_steps(log: Sequence[Change], remove: Callable[[Trim], int | None], *, keep: int) -> int:
    """Remove the entries that a log does not need, at most 100,000, and return how many were removed.

    Args:
        log: all entries, oldest first
        remove: removes entries and adds `log_trimmed` in one write; returns the position of that entry, or None if
            another process has trimmed the log since it was read
        keep: as for `plan_trim`
    """
    removed = 0
    for _ in range(_MAX_STEPS):
        trim = plan_trim(log, keep=keep)
        position = None if trim is None else remove(trim)
        if trim is None or position is None:
            break
        gone = frozenset(trim.positions)
        removed += len(gone)
        marker = Change(position, "log_trimmed", "", "", trim.horizon, "", None, "", log[-1].at)
        log = [*(change for change in log if change.position not in gone), marker]
    return removed


def plan_trim(log: Sequence[Change], *, keep: int) -> Trim | None:
    """Return what can be removed from a whole log, or None.

    Args:
        log: all entries, oldest first
        keep: number of each tenant's latest entries that are never removed
    """
    markers = [change.position for change in log if change.kind == "log_trimmed"]
    recent = _recent(log, keep)
    old = [change for change in log if change.position not in recent and change.kind != "log_trimmed"]
    needed = _needed(old)
    removable = [change.position for change in old if change.position not in needed]
    if len(removable) > _MAX_REMOVED:
        # which entries are needed depends on where the log ends: trim a part as if it were the whole old log
        end = removable[_MAX_REMOVED - 1]
        part = [change for change in old if change.position <= end]
        needed = _needed(part)
        removable = [change.position for change in part if change.position not in needed]
    if not removable:
        return None
    return Trim(sorted([*removable, *markers]), removable[-1], markers[-1] if markers else 0, log[-1].position)


def is_behind(position: int, changes: Iterable[Change]) -> bool:
    """Return whether entries after `position` have been removed, according to the entries that follow it."""
    return any(change.kind == "log_trimmed" and change.version > position for change in changes)


def _recent(log: Sequence[Change], keep: int) -> set[int]:
    """Return the positions of each tenant's last entries."""
    counts: Counter[str] = Counter()
    recent = set()
    for change in reversed(log):
        counts[change.tenant] += 1
        if counts[change.tenant] <= keep:
            recent.add(change.position)
    return recent


def _needed(log: Sequence[Change]) -> set[int]:
    """Return the positions of entries that are enough to replay the state at the end of a log."""
    state: dict[tuple[str, str], _Needed] = {}
    for change in log:
        state.setdefault((change.tenant, change.task), _Needed()).apply(change)
    return {position for needed in state.values() for position in needed.positions()}


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

    def positions(self) -> Iterator[int]:
        yield from self.versions.values()
        yield from self.history.positions()
        if self.traffic is not None:
            yield self.traffic
