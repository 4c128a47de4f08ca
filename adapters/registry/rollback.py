"""Rollback of an alias to its previous version, which is found by replaying the change log."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from adapters.errors import Conflict, NotFound
from adapters.names import PRODUCTION
from adapters.registry.protocol import Change, Registry, TaskInfo

MAX_VERSIONS = 32
_MAX_SHARED = 10_000


Targets = Mapping[str, tuple[int, ...]]
"""The versions that each alias of a task pointed at, its present one last. Never changed in place."""


def targets_after(targets: Targets, change: Change) -> Targets:
    """Return a task's targets after an entry of its log.

    An alias that returns to a version of its history forgets the later ones, so that two rollbacks go two versions back
    and not back and forth. Deleted versions leave the history.
    """
    alias = str(change.alias)
    match change.kind:
        case "alias_set":
            known = targets.get(alias, ())
            kept = known[: known.index(change.version)] if change.version in known else known
            return {**targets, alias: (*kept, change.version)[-MAX_VERSIONS:]}
        case "alias_deleted":
            return {name: versions for name, versions in targets.items() if name != alias}
        case "version_deleted":
            return {name: tuple(v for v in versions if v != change.version) for name, versions in targets.items()}
        case "published" | "traffic_set" | "log_trimmed":
            return targets


class TaskHistory:
    """The targets of one task's aliases, with the entries that set them."""

    def __init__(self) -> None:
        self._targets: Targets = {}
        self._positions: dict[tuple[str, int], int] = {}
        """Position of the last entry that pointed an alias at a version."""

    def apply(self, change: Change) -> None:
        """Replay an entry of the task's log."""
        self._targets = targets_after(self._targets, change)
        if change.kind == "alias_set":
            self._positions[str(change.alias), change.version] = change.position

    def __len__(self) -> int:
        """Return the number of entries that the history needs."""
        return sum(map(len, self._targets.values()))

    def positions(self) -> Iterator[int]:
        """Yield the positions of the entries that the history needs."""
        for alias, versions in self._targets.items():
            for version in versions:
                yield self._positions[alias, version]


class AliasHistory:
    """The targets of all tasks' aliases. Most tasks have the same, one alias at one version, which is stored once."""

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, Targets]] = {}
        self._shared: dict[tuple[tuple[str, tuple[int, ...]], ...], Targets] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Replay entries of the log, each once and in order."""
        for change in changes:
            tasks = self._tenants.setdefault(change.tenant, {})
            before = tasks.get(change.task, {})
            after = targets_after(before, change)
            if after is before:
                continue
            if not after:
                tasks.pop(change.task, None)
            elif len(self._shared) < _MAX_SHARED:
                tasks[change.task] = self._shared.setdefault(tuple(after.items()), after)
            else:
                tasks[change.task] = self._shared.get(tuple(after.items()), after)

    def of(self, tenant: str, task: str, alias: str) -> tuple[int, ...]:
        """Return the versions that the alias pointed at and that still exist, its present one last."""
        return self._tenants.get(tenant, {}).get(task, {}).get(alias, ())


@dataclass(frozen=True, slots=True)
class AliasMove:
    """A move of an alias from one version to another."""

    alias: str
    previous: int | None
    """Where it pointed before; None if it did not exist."""
    version: int


def previous_target(
    info: TaskInfo, history: AliasHistory, *, alias: str = PRODUCTION, expected: int | None = None
) -> AliasMove:
    """Return the move that takes an alias back to its previous version.

    Args:
        info: the task
        history: of the log up to the state that `info` shows
        alias: the alias
        expected: the version that the alias must point at now, if the caller names one

    Raises:
        NotFound: no such alias
        Conflict: it points at another version than expected, or has no previous version that still exists, or moved
            between the reads of task and log
    """
    current = info.aliases.get(alias)
    if current is None:
        raise NotFound(f"no {info.task}@{alias}")
    if expected is not None and current != expected:
        raise Conflict(f"{info.task}@{alias} points at version {current}, expected version {expected}")
    earlier = history.of(info.tenant, info.task, alias)
    if earlier[-1:] != (current,):
        raise Conflict(f"{info.task}@{alias} was moved at this moment, try again")
    if len(earlier) < 2:
        raise Conflict(f"{info.task}@{alias} points at version {current} and has no previous version that still exists")
    return AliasMove(alias, current, earlier[-2])


def roll_back(registry: Registry, tenant: str, task: str, move: AliasMove, *, actor: str) -> None:
    """Move an alias back, unless it has moved meanwhile: of two concurrent rollbacks, one succeeds. Blocking.

    A rollback of `production` also ends a canary, in the same write, so that one known version answers.

    Raises:
        NotFound: the version was deleted meanwhile
        Conflict: the alias no longer points at `move.previous`
    """
    registry.set_alias(
        tenant, task, move.alias, move.version, actor=actor, expected=move.previous, end_canary=move.alias == PRODUCTION
    )
