"""Where aliases pointed before: the log, replayed, says where a rollback goes. Pure."""

from collections.abc import Iterable

from adapters.registry.protocol import Change

_MAX_STEPS = 32


class AliasHistory:
    """The way that each alias came, its last 32 versions.

    An alias that moves back to a version of its way forgets what came after it: whoever rolls back twice goes two steps
    back, not back and forth. A deleted version leaves the way.
    """

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Replay entries of the log, each once and in order."""
        for change in changes:
            self._apply(change)

    def before(self, tenant: str, task: str, alias: str) -> int | None:
        """The version that the alias pointed at before its present one; None where there is none that lives."""
        way = self._ways.get((tenant, task), {}).get(alias, ())
        return way[-2] if len(way) > 1 else None

    def _apply(self, change: Change) -> None:
        ways = self._ways.setdefault((change.tenant, change.task), {})
        match change.kind:
            case "alias_set":
                way = ways.get(str(change.alias), ())
                back = way[: way.index(change.version)] if change.version in way else way
                ways[str(change.alias)] = (*back, change.version)[-_MAX_STEPS:]
            case "alias_deleted":
                ways.pop(str(change.alias), None)
            case "version_deleted":
                for alias, way in ways.items():
                    ways[alias] = tuple(version for version in way if version != change.version)
            case "published" | "traffic_set":
                pass
        if not ways:
            del self._ways[change.tenant, change.task]
