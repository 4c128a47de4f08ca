"""The contract for copying registries: all tenants' tasks as they are stored, their files, and the log.

Registries are archives; a folder (`folder_archive.py`) is an archive only.
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
    """A task as it is stored, including one without versions, whose numbers are not used again."""

    info: TaskInfo
    last_version: int

    @property
    def needed(self) -> Sequence[int]:
        """The versions that its aliases and traffic need, in ascending order."""
        return sorted({*self.info.aliases.values(), *self.info.traffic.versions})


class Archive(Protocol):
    """A store that can be copied without loss. Versions are restored first, then tasks, then the log.

    Every method raises `RegistryUnavailable` if the store cannot be read or written.
    """

    def records(self) -> Sequence[TaskRecord]:
        """Return all tenants' tasks, by tenant and name."""
        ...

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        """Return a version's files (`NotFound`)."""
        ...

    def changes(self, since: int = 0) -> Sequence[Change]:
        """Return the log's entries after a position, oldest first."""
        ...

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        """Store a version with its number, time and actor, without an entry in the log.

        Raises:
            InvalidName, InvalidAdapter: as `check_restored`
            Conflict: the task has a version with that number or digest, or another copy writes to the same folder
        """
        ...

    def restore_task(self, record: TaskRecord) -> None:
        """Replace a task's aliases and traffic, and raise its last version number, which is never lowered.

        Raises:
            NotFound: an alias or the traffic needs a version that was not restored
        """
        ...

    def restore_log(self, changes: Sequence[Change]) -> None:
        """Append a log with its positions, by which pollers see what was restored.

        Raises:
            Conflict: the present log reaches the first position
        """
        ...


def check_restored(tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
    """Reject what `publish` would reject, and files that do not belong to the version.

    Raises:
        InvalidName: the tenant's or task's name
        InvalidAdapter: the files fail a check, or have another digest
    """
    check_name("tenant", tenant)
    check_name("task", task)
    digest = from_files(files).digest
    if digest != version.digest:
        raise InvalidAdapter(f"digest of {task}@{version.version}", digest, version.digest)
