"""In-memory catalog of the registry, built by replaying its change log. Refs are resolved here, not in the registry.

Belongs to the event loop. When the registry is away, the catalog answers with what it last knew.
"""

from collections.abc import Sequence
from dataclasses import replace

from adapters import NO_TRAFFIC, Change, NotFound, Ref, Resolution, TaskInfo, VersionInfo
from adapters.registry.rollback import AliasHistory


class Catalog:
    """Every tenant's tasks, versions and aliases as of one position of the log."""

    def __init__(self) -> None:
        self.last: Change | None = None
        """The last replayed entry."""
        self.history = AliasHistory()
        self._tasks: dict[tuple[str, str], TaskInfo] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def position(self) -> int:
        """Position of the last replayed entry."""
        return 0 if self.last is None else self.last.position

    def replace(self, log: Sequence[Change]) -> None:
        """Clear the catalog and replay a whole log."""
        self.last, self.history, self._tasks = None, AliasHistory(), {}
        self.apply(log)

    def apply(self, changes: Sequence[Change]) -> None:
        """Replay entries of the log; those at or before `position` are skipped."""
        for change in changes:
            if change.position > self.position:
                self._apply(change)
                self.history.apply([change])
                self.last = change

    def task(self, tenant: str, task: str) -> TaskInfo:
        """Return one task (`NotFound` if the tenant has none of that name)."""
        info = self._tasks.get((tenant, task))
        if info is None:
            raise NotFound(f"no task {task!r}")
        return info

    def tasks(self, tenant: str) -> list[TaskInfo]:
        """Return the tenant's tasks in the order of their names."""
        return sorted((info for (owner, _), info in self._tasks.items() if owner == tenant), key=lambda i: i.task)

    def num_aliases(self, tenant: str) -> int:
        """Return the number of a tenant's aliases."""
        return sum(len(info.aliases) for (owner, _), info in self._tasks.items() if owner == tenant)

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        """Resolve a ref; raise `NotFound`, or `Conflict` for an ambiguous digest prefix."""
        return self.task(tenant, ref.task).resolve(ref)

    def _apply(self, change: Change) -> None:
        key = (change.tenant, change.task)
        info = self._tasks.get(key) or TaskInfo(change.tenant, change.task, (), {})
        others = tuple(known for known in info.versions if known.version != change.version)
        match change.kind:
            case "published":
                version = VersionInfo(change.version, change.digest, change.at, change.actor)
                info = replace(info, versions=(*others, version))
            case "version_deleted":
                info = replace(info, versions=others)
            case "alias_set":
                info = replace(info, aliases={**info.aliases, str(change.alias): change.version})
            case "alias_deleted":
                left = {name: version for name, version in info.aliases.items() if name != change.alias}
                info = replace(info, aliases=left)
            case "traffic_set":
                info = replace(info, traffic=change.traffic or NO_TRAFFIC)
            case "log_trimmed":
                return
        if info.versions:
            self._tasks[key] = info
        else:
            self._tasks.pop(key, None)
