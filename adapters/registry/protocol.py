"""Contract of a registry: adapters with their versions and aliases.

Every write is atomic and appends one `Change` to an ordered log, which followers read and which is the audit trail.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from adapters.errors import Conflict, InvalidTraffic, NotFound
from adapters.names import Ref

ChangeKind = Literal["published", "alias_set", "alias_deleted", "version_deleted", "traffic_set"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """How a task's bare name is answered besides its `production` version."""

    canary: int | None = None
    """The version that answers `percent` of the requests."""
    percent: float = 0.0
    """0 to 100; of the sticky keys that callers give, or of the requests that give none."""
    shadow: int | None = None
    """The version that computes the same rows, whose answers are only counted."""

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise InvalidTraffic(f"percent is {self.percent:g}, expected 0 to 100")
        if self.canary is None and self.percent:
            raise InvalidTraffic(f"percent is {self.percent:g} without a canary version, expected 0")

    @property
    def versions(self) -> frozenset[int]:
        """The versions that it needs."""
        return frozenset(version for version in (self.canary, self.shadow) if version is not None)


NO_TRAFFIC = Traffic()
ABSENT = 0
"""Where an alias is expected to point that must not exist: no version has this number."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Result of a publication."""

    version: int
    digest: str
    created: bool
    """False where the task already had a version with this digest: no version was made."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Resolved ref."""

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
    """A task as the registry knows it: live versions in rising order, aliases by name."""

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
    """One entry of the log; `position` rises by at least one with each.

    Of a `traffic_set`, `version` and `digest` are 0 and empty.
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


def check_expected(alias: str, current: int, expected: int | None) -> None:
    """Refuse a move of an alias that points elsewhere than expected (`Conflict`)."""
    if expected is not None and current != expected:
        raise Conflict(f"{alias} points at {_place(current)}, expected {_place(expected)}")


def _place(version: int) -> str:
    return "nothing" if version == ABSENT else f"version {version}"


class Registry(Protocol):
    """Adapters by tenant and task. Callable from any thread.

    Every method raises `RegistryUnavailable` when the store behind it cannot be reached.
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
            aliases: point these at the version, whether it is new or known; None points `production` at a new one

        Raises:
            InvalidAdapter: the files fail a check
            InvalidName: a tenant, task or alias that is not well formed
        """
        ...

    def get(self, digest: str) -> dict[str, bytes]:
        """The files of an adapter (`NotFound` where no version has that digest)."""
        ...

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        """Resolve a ref; raise `NotFound`, or `Conflict` for an ambiguous digest prefix."""
        ...

    def set_alias(
        self, tenant: str, task: str, alias: str, version: int, *, actor: str, expected: int | None = None
    ) -> None:
        """Point an alias at a version.

        Args:
            expected: the version that the alias must point at now, or `ABSENT`; None sets it whatever it is

        Raises:
            NotFound: no such task or version
            Conflict: the alias does not point at `expected`
        """
        ...

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        """Remove an alias (`NotFound` where there is none, `Conflict` where it does not point at `expected`)."""
        ...

    def set_traffic(self, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
        """Say how a task's bare name is answered; `NO_TRAFFIC` by production alone.

        Raises:
            NotFound: no such task, or it lacks a version that the traffic needs
        """
        ...

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        """The tenant's tasks by name."""
        ...

    def describe(self, tenant: str, task: str) -> TaskInfo:
        """One task (`NotFound` where there is none)."""
        ...

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        """Remove a version; its number is never given again (`Conflict` while an alias or traffic needs it)."""
        ...

    def size_bytes(self, digests: Collection[str]) -> int:
        """The bytes of these adapters' files together; one that is not there has none."""
        ...

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        """The log's entries after a position, oldest first: all, or the first `limit` (1 or more)."""
        ...
