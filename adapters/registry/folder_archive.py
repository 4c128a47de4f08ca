"""A registry as a folder, for inspection, backup and transfer: one PEFT folder per version, and an index.

registry.json                       all tasks with versions, aliases and traffic, and the log
adapters/<tenant>/<task>/v<n>/      the files of version n, as PEFT loads them
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from adapters.atomic_files import atomic_write
from adapters.errors import Conflict, NotFound, RegistryUnavailable, first_error
from adapters.files import read_folder, write_folder
from adapters.names import check_name
from adapters.registry.archive import TaskRecord, check_restored
from adapters.registry.protocol import NO_TRAFFIC, Change, TaskInfo, Traffic, VersionInfo
from adapters.regular_files import check_no_links, read_regular
from adapters.storage.private_files import FOLDER_MODE, create_private_folder

INDEX = "registry.json"
_MAX_INDEX_BYTES = 1 << 30
"""Size of the index of a registry with a million versions and log entries."""


@dataclass(frozen=True, slots=True)
class _Index:
    format: Literal[1]
    tasks: Sequence[TaskRecord]
    changes: Sequence[Change]


_ADAPTER = TypeAdapter(_Index)


@dataclass(slots=True)
class _Task:
    """A task while the archive is read or written."""

    versions: dict[int, VersionInfo] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    aliases: Mapping[str, int] = field(default_factory=dict)
    traffic: Traffic = NO_TRAFFIC
    last_version: int = 0

    def add(self, version: VersionInfo) -> None:
        self.versions[version.version] = version
        self.digests.add(version.digest)
        self.last_version = max(self.last_version, version.version)

    def record(self, tenant: str, task: str) -> TaskRecord:
        versions = tuple(self.versions[number] for number in sorted(self.versions))
        return TaskRecord(TaskInfo(tenant, task, versions, self.aliases, self.traffic), self.last_version)


class FolderArchive:
    """An `Archive` in a folder. The index is written last, with the log; a folder without it is not an archive."""

    def __init__(self, folder: Path) -> None:
        """Read an archive, or start one in a folder that is empty or missing.

        Raises:
            RegistryUnavailable: the folder cannot be read, or contains something else
        """
        self._folder = folder
        self._tasks: defaultdict[tuple[str, str], _Task] = defaultdict(_Task)
        self._claimed = False
        self._changes: tuple[Change, ...] = ()
        with self._reaching():
            if os.path.lexists(folder / INDEX):
                self._read()
            elif folder.exists() and any(folder.iterdir()):
                raise RegistryUnavailable(f"folder {folder} is not empty and has no {INDEX}")

    def records(self) -> Sequence[TaskRecord]:
        return [self._tasks[tenant, task].record(tenant, task) for tenant, task in sorted(self._tasks)]

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        known = self._tasks.get((tenant, task))
        if known is None or version not in known.versions:
            raise NotFound(f"no {task}@{version}")
        with self._reaching():
            return read_folder(self._place(tenant, task, version), beneath=self._folder)

    def changes(self, since: int = 0) -> Sequence[Change]:
        return [change for change in self._changes if change.position > since]

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        check_restored(tenant, task, version, files)
        known = self._tasks.get((tenant, task), _Task())
        if version.version in known.versions or version.digest in known.digests:
            raise Conflict(f"{task}@{version.version} or its adapter {version.digest} is there already")
        with self._reaching():
            self._claim()
            write_folder(self._place(tenant, task, version.version), files, beneath=self._folder)
        self._tasks[tenant, task].add(version)

    def restore_task(self, record: TaskRecord) -> None:
        info = record.info
        known = self._tasks.get((info.tenant, info.task), _Task())
        for version in record.needed:
            if version not in known.versions:
                raise NotFound(f"no {info.task}@{version}")
        known.aliases, known.traffic = info.aliases, info.traffic
        known.last_version = max(known.last_version, record.last_version)
        self._tasks[info.tenant, info.task] = known

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

    def _claim(self) -> None:
        """Create the folder of adapters, and refuse one that another copy has created (`Conflict`)."""
        if self._claimed:
            return
        create_private_folder(self._folder)
        place = self._folder / "adapters"
        check_no_links(place, beneath=self._folder)
        try:
            place.mkdir(mode=FOLDER_MODE)
        except FileExistsError as exc:
            raise Conflict(f"another copy is or was written to {place}; use an empty folder") from exc
        self._claimed = True

    def _read(self) -> None:
        try:
            index = _ADAPTER.validate_json(read_regular(self._folder / INDEX, max_bytes=_MAX_INDEX_BYTES))
        except ValidationError as exc:
            where, value, message = first_error(exc)
            raise RegistryUnavailable(f"{self._folder / INDEX}: {where} is {value}: {message}") from exc
        for record in index.tasks:
            tenant, task = check_name("tenant", record.info.tenant), check_name("task", record.info.task)
            for version in record.info.versions:
                self._tasks[tenant, task].add(version)
            self.restore_task(record)
        self._claimed = bool(index.tasks)
        self._changes = tuple(index.changes)

    def _place(self, tenant: str, task: str, version: int) -> Path:
        return self._folder / "adapters" / tenant / task / f"v{version}"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise RegistryUnavailable(f"folder {self._folder}: {exc}") from exc
