"""The contract of the registry: adapters by tenant and task, with versions, aliases and traffic.

Every write is atomic and adds one `Change` or more to an ordered log, which servers poll and which is the audit trail.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, Protocol

from adapters.errors import Conflict, InvalidTraffic, LimitReached, NotFound
from adapters.names import Ref

ChangeKind = Literal["published", "alias_set", "alias_deleted", "version_deleted", "traffic_set", "log_trimmed"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The versions that answer requests for a task's bare name in addition to `production`."""

    canary: int | None = None
    """The version that answers `percent` of the requests."""
    percent: float = 0.0
    """0 to 100: share of the sticky keys, or of requests without one."""
    shadow: int | None = None
    """The version that computes the same rows, whose answers are only compared and counted."""

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise InvalidTraffic(f"percent is {self.percent:g}, expected 0 to 100")
        if self.canary is None and self.percent:
            raise InvalidTraffic(f"percent is {self.percent:g} without a canary version, expected 0")
        object.__setattr__(self, "percent", float(self.percent))  # equal traffic is stored as equal text

    @property
    def versions(self) -> frozenset[int]:
        """The versions that must exist."""
        return frozenset(version for version in (self.canary, self.shadow) if version is not None)

    def under(self, production: int, *, end_canary: bool) -> "Traffic":
        """Return the traffic that remains once a version is in production, which is never its own canary or shadow.

        Args:
            production: that version
            end_canary: end the canary even if it is another version
        """
        canary = None if end_canary or self.canary == production else self.canary
        shadow = None if self.shadow == production else self.shadow
        return Traffic(canary, 0.0 if canary is None else self.percent, shadow)


NO_TRAFFIC = Traffic()


def known_fields(kind: type, values: Mapping[str, object]) -> dict[str, Any]:
    """Return the values that a dataclass has fields for: during a rolling upgrade, newer servers write others too."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def read_traffic(stored: str | None) -> Traffic | None:
    """Read traffic from its JSON."""
    return None if stored is None else Traffic(**known_fields(Traffic, json.loads(stored)))


@lru_cache(maxsize=10_000)
def shared_aliases(aliases: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    """Return aliases and their versions as one mapping for all tasks that have the same: most of a million do."""
    return {sys.intern(alias): version for alias, version in aliases}


ABSENT = 0
"""The expected target of an alias that must not exist yet; no version has this number."""


@dataclass(frozen=True, slots=True)
class Publication:
    """The result of a publish."""

    version: int
    digest: str
    created: bool
    """False if the task already had a version with this digest."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The version that a ref names at present."""

    task: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class VersionInfo:
    version: int
    digest: str
    created_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task in the registry: versions in ascending order, aliases by name."""

    tenant: str
    task: str
    versions: tuple[VersionInfo, ...]
    aliases: Mapping[str, int]
    traffic: Traffic = NO_TRAFFIC

    def resolve(self, ref: Ref) -> Resolution:
        """Return the version that a ref of this task names.

        Raises:
            NotFound: no such version or alias
            Conflict: a digest prefix that several versions share
        """
        if ref.digest is not None:
            found = [info for info in self.versions if info.digest.startswith(ref.digest)]
        else:
            version = ref.version if ref.alias is None else self.aliases.get(ref.alias)
            found = [info for info in self.versions if info.version == version]
        if not found:
            raise NotFound(f"no {ref}")
        if len(found) > 1:
            raise Conflict(f"{ref} matches {len(found)} versions, give more digits")
        return Resolution(self.task, found[0].version, found[0].digest)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log; positions increase.

    For `traffic_set`, `version` is 0 and `digest` is empty. `log_trimmed` belongs to no tenant and task, and its
    `version` is the position up to which entries are missing (`trimming.py`).
    """

    position: int
    kind: ChangeKind
    tenant: str
    task: str
    version: int
    digest: str
    alias: str | None
    actor: str
    at: datetime
    traffic: Traffic | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The present state of a registry, to start from without replaying its log."""

    tasks: Sequence[TaskInfo]
    """All tenants' tasks that have versions, in no particular order."""
    last: Change | None
    """The last entry of the log that all tasks include; None if the log is empty, and then there are no tasks. Some
    tasks may include later entries too. These may be replayed again, in order, with the same result."""


def check_expected(alias: str, current: int, expected: int | None) -> None:
    """Raise `Conflict` if an alias does not point at the expected version."""
    if expected is not None and current != expected:
        raise Conflict(f"{alias} points at {_place(current)}, expected {_place(expected)}")


def check_traffic(traffic: Traffic, production: int | None) -> None:
    """Raise `InvalidTraffic` if the version in production is to be its own canary or shadow."""
    for role, version in (("canary", traffic.canary), ("shadow", traffic.shadow)):
        if version is not None and version == production:
            raise InvalidTraffic(f"{role} is version {version}, which production is already, expected another")


def _place(version: int) -> str:
    return "nothing" if version == ABSENT else f"version {version}"


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """Counts that a store refuses to exceed. Entries already above a limit can still be moved and deleted."""

    aliases_per_task: int = 100
    task_names: int = 50_000
    """Names of a tenant's tasks, including deleted ones, whose version numbers stay reserved."""

    def check_aliases(self, task: str, count: int) -> None:
        """Raise `LimitReached` if a task would have too many aliases."""
        if count > self.aliases_per_task:
            raise LimitReached(
                f"task {task} would have {count} aliases, its limit is {self.aliases_per_task}; delete some first"
            )

    def check_names(self, tenant: str, count: int) -> None:
        """Raise `LimitReached` if a tenant would have used too many task names."""
        if count > self.task_names:
            raise LimitReached(
                f"tenant {tenant!r} would have used {count} names of tasks, its limit is {self.task_names}, deleted "
                "ones included; publish under a name that it used before"
            )


DEFAULT_LIMITS = RegistryLimits()


class Registry(Protocol):
    """Adapters by tenant and task. Callable from any thread.

    Every method raises `RegistryUnavailable` if the store cannot be reached.
    """

    def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        actor: str,
        aliases: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> Publication:
        """Store an adapter's files as the task's next version. Idempotent by digest.

        Args:
            digest: of the adapter in the files, if the caller has parsed them; None parses and checks them here
            aliases: aliases to point at the version, new or known; None points `production` at a new version

        Raises:
            InvalidAdapter: the files fail a check
            InvalidName: a malformed tenant, task or alias
            LimitReached: too many aliases of the task, or names of the tenant's tasks
        """
        ...

    def get(self, digest: str) -> dict[str, bytes]:
        """Return the files of a version with that digest, for loading the adapter (`NotFound` if there is none).

        The adapter is the same in all of them; the card and the PEFT configuration are each uploader's own.
        """
        ...

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        """Return a version's files, byte for byte as they were published (`NotFound`)."""
        ...

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        """Return the version that a ref names (`NotFound`; `Conflict` for an ambiguous digest prefix)."""
        ...

    def set_alias(
        self,
        tenant: str,
        task: str,
        alias: str,
        version: int,
        *,
        actor: str,
        expected: int | None = None,
        end_canary: bool = False,
    ) -> None:
        """Point an alias at a version. A version that becomes `production` stops being canary or shadow in one write.

        Args:
            expected: the version that the alias must point at now, or `ABSENT`; None sets it unconditionally
            end_canary: for `production`: end the task's canary even if it is another version

        Raises:
            NotFound: no such task or version
            Conflict: the alias does not point at `expected`
            LimitReached: the alias is new, and the task has the maximum number of aliases
        """
        ...

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        """Delete an alias (`NotFound`; `Conflict` if it does not point at `expected`)."""
        ...

    def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, actor: str, expected: Traffic | None = None
    ) -> None:
        """Set which versions answer a task's bare name; with `NO_TRAFFIC`, only production does.

        Args:
            expected: the traffic that must be set now; None accepts any

        Raises:
            NotFound: no such task, or it lacks a version that the traffic needs
            Conflict: the traffic is not the expected one
            InvalidTraffic: canary or shadow is production's own version
        """
        ...

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        """Return the tenant's tasks by name."""
        ...

    def describe(self, tenant: str, task: str) -> TaskInfo:
        """Return one task (`NotFound`)."""
        ...

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        """Delete a version; its number is not used again (`Conflict` while an alias or traffic needs it)."""
        ...

    def content_sizes(self, tenant: str) -> Mapping[str, int]:
        """Return the size in bytes of each distinct set of files of the tenant's versions, by `content_id`."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the present state of all tenants, much faster than the log is replayed."""
        ...

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        """Return the log's entries after a position, oldest first: all, or the first `limit` (at least 1)."""
        ...

    def trim_log(self, *, keep: int, min_new: int = 0, pause: Callable[[], None] = lambda: None) -> int:
        """Remove entries that neither the present state nor the last `keep` of their tenant needs; return how many.

        Returns 0, without reading the log, if it has fewer than `min_new` entries since the last removal. Removes at
        most 100,000 entries, in steps of 5,000. After each step the log replays to the same state. `pause` is called
        after each page that was read or planned, so that other threads can work.
        """
        ...
