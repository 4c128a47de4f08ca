"""Rollback of an alias to its previous version, which is found by replaying the change log."""

from collections.abc import Iterable
from dataclasses import dataclass

from adapters.errors import Conflict, NotFound
from adapters.names import PRODUCTION
from adapters.registry.protocol import Change, Registry, TaskInfo

MAX_VERSIONS = 32


class AliasHistory:
    """The last 32 versions that each alias pointed at.

    An alias that returns to a version of its history forgets the later ones, so that two rollbacks go two versions back
    and not back and forth. Deleted versions leave the history.
    """

    def __init__(self) -> None:
        self._histories: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Replay entries of the log, each once and in order."""
        for change in changes:
            self._apply(change)

    def of(self, tenant: str, task: str, alias: str) -> tuple[int, ...]:
        """Return the versions that the alias pointed at and that still exist, its present one last."""
        return self._histories.get((tenant, task), {}).get(alias, ())

    def _apply(self, change: Change) -> None:
        histories = self._histories.setdefault((change.tenant, change.task), {})
        match change.kind:
            case "alias_set":
                history = histories.get(str(change.alias), ())
                earlier = history[: history.index(change.version)] if change.version in history else history
                histories[str(change.alias)] = (*earlier, change.version)[-MAX_VERSIONS:]
            case "alias_deleted":
                histories.pop(str(change.alias), None)
            case "version_deleted":
                for alias, history in histories.items():
                    histories[alias] = tuple(version for version in history if version != change.version)
            case "published" | "traffic_set" | "log_trimmed":
                pass
        if not histories:
            del self._histories[change.tenant, change.task]


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
