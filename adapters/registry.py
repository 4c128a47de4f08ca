"""The registry's contract: where adapters live, under which versions and aliases. Implementations stand beside it.

Every write is atomic and leaves one `Change` in an ordered log, which is the followers' feed and the audit trail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from adapters.names import Ref

ChangeKind = Literal["published", "alias_set", "alias_deleted", "version_deleted"]


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a publish."""

    version: int
    digest: str
    created: bool
    """False where the task already had a version with this digest: no version was made."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a ref means now."""

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


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log; `position` rises by at least one with each."""

    position: int
    kind: ChangeKind
    tenant: str
    task: str
    version: int
    digest: str
    alias: str | None
    actor: str
    at: datetime


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
    ) -> Publication:
        """Store an adapter's files as the task's next version. Idempotent by digest.

        Args:
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
        """What a ref means now (`NotFound` where it means nothing, `Conflict` where a digest prefix is ambiguous)."""
        ...

    def set_alias(
        self, tenant: str, task: str, alias: str, version: int, *, actor: str, expected: int | None = None
    ) -> None:
        """Point an alias at a version.

        Args:
            expected: the version that the alias must point at now; None sets it whatever it is

        Raises:
            NotFound: no such task or version
            Conflict: the alias does not point at `expected`
        """
        ...

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str) -> None:
        """Remove an alias (`NotFound` where there is none)."""
        ...

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        """The tenant's tasks by name."""
        ...

    def describe(self, tenant: str, task: str) -> TaskInfo:
        """One task (`NotFound` where there is none)."""
        ...

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        """Remove a version; its number is never given again (`Conflict` while an alias points at it)."""
        ...

    def changes(self, since: int = 0) -> Sequence[Change]:
        """The log's entries after a position, oldest first."""
        ...
