"""A registry as a folder, for inspection, backup and transfer: one PEFT folder per version, and an index.

registry.json                       all tasks with versions, aliases and traffic, and the log
adapters/<tenant>/<task>/v<n>/      the files of version n, as PEFT loads them
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from adapters.atomic_files import atomic_write
from adapters.errors import Conflict, NotFound, RegistryUnavailable, first_error
from adapters.files import read_folder, write_folder
from adapters.names import check_name
from adapters.registry.archive import TaskRecord, check_restored
from adapters.registry.protocol import Change, VersionInfo
from adapters.storage.private_files import create_private_folder

INDEX = "registry.json"


@dataclass(frozen=True, slots=True)
class _Index:
    format: Literal[1]
    tasks: Sequence[TaskRecord]
    changes: Sequence[Change]


_ADAPTER = TypeAdapter(_Index)


class FolderArchive:
    """An `Archive` in a folder. The index is written last, with the log; a folder without it is not an archive."""

    def __init__(self, folder: Path) -> None:
        """Read an archive, or start one in a folder that is empty or missing.

        Raises:
            RegistryUnavailable: the folder cannot be read, or contains something else
        """
        self._folder = folder
        self._records: dict[tuple[str, str], TaskRecord] = {}
        self._versions: dict[tuple[str, str], dict[int, str]] = {}  # each task's digests by number
        self._changes: tuple[Change, ...] = ()
        with self._reaching():
            if (folder / INDEX).is_file():
                self._read()
            elif folder.exists() and any(folder.iterdir()):
                raise RegistryUnavailable(f"folder {folder} is not empty and has no {INDEX}")

    def records(self) -> Sequence[TaskRecord]:
        return [self._records[key] for key in sorted(self._records)]

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        if version not in self._versions.get((tenant, task), {}):
            raise NotFound(f"no {task}@{version}")
        with self._reaching():
            return read_folder(self._place(tenant, task, version))

    def changes(self, since: int = 0) -> Sequence[Change]:
        return [change for change in self._changes if change.position > since]

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        check_restored(tenant, task, version, files)
        known = self._versions.get((tenant, task), {})
        if version.version in known or version.digest in known.values():
            raise Conflict(f"{task}@{version.version} or its adapter {version.digest} is there already")
        with self._reaching():
            create_private_folder(self._folder)
            write_folder(self._place(tenant, task, version.version), files)
        self._know(tenant, task, version)

    def restore_task(self, record: TaskRecord) -> None:
        key = (record.info.tenant, record.info.task)
        for version in record.info.aliases.values():
            if version not in self._versions.get(key, {}):
                raise NotFound(f"no {record.info.task}@{version}")
        self._records[key] = record

    def restore_log(self, changes: Sequence[Change]) -> None:
        position = self._changes[-1].position if self._changes else 0
        if changes and position >= changes[0].position:
            raise Conflict(f"the log is at position {position}, expected less than {changes[0].position}")
        log = (*self._changes, *changes)
        index = _ADAPTER.dump_json(_Index(1, tuple(self.records()), log), indent=1)
        with self._reaching():
            create_private_folder(self._folder)
            atomic_write({self._folder / INDEX: index})
        self._changes = log

    def _read(self) -> None:
        try:
            index = _ADAPTER.validate_json((self._folder / INDEX).read_bytes())
        except ValidationError as exc:
            where, value, message = first_error(exc)
            raise RegistryUnavailable(f"{self._folder / INDEX}: {where} is {value}: {message}") from exc
        for record in index.tasks:
            for version in record.info.versions:
                self._know(check_name("tenant", record.info.tenant), check_name("task", record.info.task), version)
            self.restore_task(record)
        self._changes = tuple(index.changes)

    def _know(self, tenant: str, task: str, version: VersionInfo) -> None:
        self._versions.setdefault((tenant, task), {})[version.version] = version.digest

    def _place(self, tenant: str, task: str, version: int) -> Path:
        return self._folder / "adapters" / tenant / task / f"v{version}"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise RegistryUnavailable(f"folder {self._folder}: {exc}") from exc
