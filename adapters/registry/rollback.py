"""Rollback of an alias to its previous version, which is found by replaying the change log."""

from collections.abc import Iterable
from dataclasses import dataclass

from adapters.errors import Conflict, NotFound
from adapters.names import PRODUCTION
from adapters.registry.protocol import Change, Registry, TaskInfo

MAX_VERSIONS = 32


class TaskHistory:
    """The last 32 versions that each alias of one task pointed at.

    An alias that returns to a version of its history forgets the later ones, so that two rollbacks go two versions back
    and not back and forth. Deleted versions leave the history.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, dict[int, int]] = {}
        """By alias: the position of the log's entry for each version, oldest first."""

    def apply(self, change: Change) -> None:
        """Replay an entry of the task's log."""
        match change.kind:
            case "alias_set":
                history = self.aliases.setdefault(str(change.alias), {})
                while change.version in history:
                    history.popitem()
                history[change.version] = change.position
                if len(history) > MAX_VERSIONS:
                    del history[next(iter(history))]
            case "alias_deleted":
                self.aliases.pop(str(change.alias), None)
            case "version_deleted":
                for history in self.aliases.values():
                    history.pop(change.version, None)
            case "published" | "traffic_set" | "log_trimmed":
                pass


class AliasHistory:
    """The history of all tasks' aliases."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], TaskHistory] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Replay entries of the log, each once and in order."""
        for change in changes:
            task = self._tasks.setdefault((change.tenant, change.task), TaskHistory())
            task.apply(change)
            if not task.aliases:
                del self._tasks[change.tenant, change.task]

    def of(self, tenant: str, task: str, alias: str) -> tuple[int, ...]:
        """Return the versions that the alias pointed at and that still exist, its present one last."""
        known = self._tasks.get((tenant, task))
        return () if known is None else tuple(known.aliases.get(alias, ()))


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
