"""In-memory catalog of the registry: its present state, kept up to date by its change log. Refs are resolved here.

Belongs to the event loop. When the registry is away, the catalog answers with what it last knew.
"""

import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from adapters import NO_TRAFFIC, Change, NotFound, Ref, Resolution, TaskInfo, VersionInfo
from adapters.registry.protocol import Snapshot
from adapters.registry.rollback import AliasHistory
from service.errors import NotReady


class Catalog:
    """Every tenant's tasks, versions and aliases as of one position of the log."""

    def __init__(self) -> None:
        self.last: Change | None = None
        """The last replayed entry."""
        self._tenants: dict[str, dict[str, TaskInfo]] = {}
        self._num_aliases: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        """Names of tasks in order, by tenant; of tenants whose tasks were listed."""
        self._history: AliasHistory | None = AliasHistory()
        """None until the part of the log that precedes a snapshot is read."""
        self._history_position = 0

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    @property
    def position(self) -> int:
        """Position of the last replayed entry."""
        return 0 if self.last is None else self.last.position

    @property
    def history(self) -> AliasHistory:
        """The former targets of aliases (`NotReady` while they are read after a start)."""
        if self._history is None:
            raise NotReady("the history of aliases is still being read; retry in some seconds")
        return self._history

    @property
    def has_history(self) -> bool:
        """Whether `history` is known."""
        return self._history is not None

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything with a snapshot, whose history `take_history` adds later."""
        self.last = snapshot.last
        self._history, self._history_position = None if snapshot.tasks else AliasHistory(), 0
        self._tenants, self._num_aliases, self._names = {}, {}, {}
        for info in snapshot.tasks:
            self._keep(info)

    def take_history(self, history: AliasHistory, *, position: int) -> bool:
        """Take over the history of the log up to a position; return False if the catalog is already further."""
        if position < self.position:
            return False
        self._history, self._history_position = history, position
        return True

    def apply(self, changes: Sequence[Change]) -> None:
        """Replay entries of the log; those at or before `position` are skipped."""
        for change in changes:
            if change.position <= self.position:
                continue
            self._apply(change)
            if self._history is not None and change.position > self._history_position:
                self._history.apply([change])
            self.last = change

    def task(self, tenant: str, task: str) -> TaskInfo:
        """Return one task (`NotFound` if the tenant has none of that name)."""
        info = self._tenants.get(tenant, {}).get(task)
        if info is None:
            raise NotFound(f"no task {task!r}")
        return info

    def tasks(self, tenant: str, *, containing: str = "", after: str = "", limit: int | None = None) -> list[TaskInfo]:
        """Return the tenant's tasks in the order of their names.

        Args:
            containing: part of their names
            after: only tasks whose names come after this one
            limit: maximum number of tasks; None for all
        """
        infos = self._tenants.get(tenant, {})
        if tenant not in self._names:
            self._names[tenant] = sorted(infos)
        names = self._names[tenant]
        following = islice(names, bisect_right(names, after), None)
        return [infos[name] for name in islice((name for name in following if containing in name), limit)]

    def num_tasks(self, tenant: str, *, containing: str = "") -> int:
        """Return the number of a tenant's tasks whose names contain a text."""
        infos = self._tenants.get(tenant, {})
        return len(infos) if not containing else sum(containing in name for name in infos)

    def num_aliases(self, tenant: str) -> int:
        """Return the number of a tenant's aliases."""
        return self._num_aliases.get(tenant, 0)

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        """Resolve a ref; raise `NotFound`, or `Conflict` for an ambiguous digest prefix."""
        return self.task(tenant, ref.task).resolve(ref)

    def _apply(self, change: Change) -> None:
        if change.kind == "log_trimmed":
            return
        known = self._tenants.get(change.tenant, {}).get(change.task)
        # names that many changes or other parts of the server repeat are kept once
        info = known or TaskInfo(sys.intern(change.tenant), change.task, (), {})
        others = tuple(version for version in info.versions if version.version != change.version)
        match change.kind:
            case "published":
                version = VersionInfo(change.version, sys.intern(change.digest), change.at, sys.intern(change.actor))
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
        self._forget(known)
        self._keep(info)
        names = self._names.get(info.tenant)
        if names is not None and known is None and info.versions:
            insort(names, info.task)
        elif names is not None and known is not None and not info.versions:
            del names[bisect_left(names, info.task)]

    def _keep(self, info: TaskInfo) -> None:
        if info.versions:
            self._tenants.setdefault(info.tenant, {})[info.task] = info
            self._num_aliases[info.tenant] = self._num_aliases.get(info.tenant, 0) + len(info.aliases)

    def _forget(self, info: TaskInfo | None) -> None:
        if info is not None:
            del self._tenants[info.tenant][info.task]
            self._num_aliases[info.tenant] -= len(info.aliases)
