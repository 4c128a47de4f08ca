"""Interface of a registry's copy: all tenants' tasks as they are stored, their files, and the log.

Registries are archives too; a folder (`folder_archive.py`) is only an archive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.errors import InvalidAdapter
from adapters.files import from_files
from adapters.names import check_name
from adapters.registry.protocol import Change, TaskInfo, VersionInfo


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it is stored: also one with no version left, whose numbers are not given again."""

    info: TaskInfo
    last_version: int


class Archive(Protocol):
    """A place that can be copied without loss. Restored are first versions, then tasks, last the log.

    Every method raises `RegistryUnavailable` when the store behind it cannot be read or written.
    """

    def records(self) -> Sequence[TaskRecord]:
        """Every tenant's tasks, by tenant and name."""
        ...

    def get(self, digest: str) -> dict[str, bytes]:
        """The files of an adapter (`NotFound` where no version has that digest)."""
        ...

    def changes(self, since: int = 0) -> Sequence[Change]:
        """The log's entries after a position, oldest first."""
        ...

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        """Store a version as it was elsewhere: number, time and actor. Leaves no change in the log.

        Raises:
            InvalidName, InvalidAdapter: as `check_restored`
            Conflict: the task has that number or that digest
        """
        ...

    def restore_task(self, record: TaskRecord) -> None:
        """Give a task its aliases, traffic and last number.

        Raises:
            NotFound: an alias points at a version that was not restored
        """
        ...

    def restore_log(self, changes: Sequence[Change]) -> None:
        """Append a log, positions and all: by it followers see what was restored.

        Raises:
            Conflict: the place's own log reaches the first position
        """
        ...


def check_restored(tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
    """Refuse what a publication would have refused, and files that are not the version's.

    Raises:
        InvalidName: the tenant's or task's
        InvalidAdapter: the files fail a check, or are another adapter's
    """
    check_name("tenant", tenant)
    check_name("task", task)
    digest = from_files(files).digest
    if digest != version.digest:
        raise InvalidAdapter(f"digest of {task}@{version.version}", digest, version.digest)
