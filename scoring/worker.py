"""The engine in a worker process of a cluster, with the adapters of a job, which travel as values.

A worker opens no registry of ours: the driver reads each adapter once (20 KB or so) and sends it; the backbone is
loaded by the worker, once.
"""

import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from adapters import DEFAULT_TENANT, Registry
from adapters.files import from_files
from adapters.names import Ref
from adapters.registry.archive import TaskRecord
from adapters.registry.opening import open_registry
from adapters.registry.protocol import Change, TaskInfo, VersionInfo
from scoring.tasks import ScoredTask, reading
from superpos_client import Client

BULK_SETTINGS: Mapping[str, Any] = {
    "bundled": False,
    "require_keys": False,
    # one caller: nothing to protect others from
    "max_queue_rows": 1 << 20,
    "max_queue_tokens": 1 << 30,
    "max_timeout_ms": 3_600_000,
}
"""Settings of an engine that only scores files."""
CONCURRENCY = 4
"""Requests of 64 rows at a time: the engine's queue is never empty, and an interruption soon ends."""


@dataclass(frozen=True, slots=True)
class _Version:
    task: str
    info: VersionInfo
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class PortableTasks:
    """Tasks with the adapters that answer them, as values that can be pickled."""

    tasks: tuple[ScoredTask, ...]
    versions: tuple[_Version, ...]

    @classmethod
    def read(
        cls,
        registry: Registry,
        refs: Sequence[str],
        *,
        text: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the versions that refs mean now from a registry.

        Args:
            registry: the tasks are the default tenant's
            refs: tasks
            text: the column of tasks with one field
            columns: the column of each field that is not named like its column

        Raises:
            AdapterError: no such task or version, or the registry cannot be read
            InvalidInput: a column is given for a field that no task has
        """
        tasks: list[ScoredTask] = []
        versions: dict[tuple[str, int], _Version] = {}
        for ref in refs:
            found = registry.resolve(DEFAULT_TENANT, Ref.parse(ref))
            info = registry.describe(DEFAULT_TENANT, found.task)
            version = next(each for each in info.versions if each.version == found.version)
            files = registry.files(DEFAULT_TENANT, found.task, found.version)
            manifest = from_files(files).manifest
            versions[found.task, found.version] = _Version(found.task, version, files)
            tasks.append(
                ScoredTask(
                    ref=ref,
                    task=found.task,
                    version=found.version,
                    digest=found.digest,
                    spec=manifest.task,
                    backbone=manifest.backbone.model_dump(),
                    columns={},
                )
            )
        return cls(tuple(reading(tasks, text=text, columns=columns or {})), tuple(versions.values()))

    def write(self, path: Path) -> None:
        """Make a registry file with these versions, under the numbers that they have."""
        registry = open_registry(path)
        changes = []
        for position, version in enumerate(self.versions, start=1):
            info = version.info
            registry.restore_version(DEFAULT_TENANT, version.task, info, version.files)
            changes.append(
                Change(
                    position=position,
                    kind="published",
                    tenant=DEFAULT_TENANT,
                    task=version.task,
                    version=info.version,
                    digest=info.digest,
                    alias=None,
                    actor=info.actor,
                    at=info.created_at,
                )
            )
        for task in sorted({version.task for version in self.versions}):
            infos = tuple(version.info for version in self.versions if version.task == task)
            last_version = max(info.version for info in infos)
            registry.restore_task(TaskRecord(TaskInfo(DEFAULT_TENANT, task, infos, {}), last_version))
        registry.restore_log(changes)


@cache
def engine_of_process(packed: bytes) -> "WorkerEngine":
    """Return this process's engine for tasks and settings, pickled as a pair; it is loaded once, by the first call."""
    tasks, settings = pickle.loads(packed)
    return WorkerEngine(tasks, settings)


class WorkerEngine:
    """An engine in this process that answers the tasks of a job, until the process ends."""

    def __init__(self, tasks: PortableTasks, settings: Mapping[str, Any]) -> None:
        """Load the backbone and the adapters.

        Args:
            tasks: that it answers
            settings: of the server by name, such as `backbone` and `threads`

        Raises:
            BackboneError: the backbone cannot be loaded
            RuntimeError: the model cannot answer
        """
        self.tasks = tasks.tasks
        with ExitStack() as made:
            folder = made.enter_context(TemporaryDirectory(prefix="superpos-worker-"))
            registry = Path(folder) / "registry.sqlite"
            tasks.write(registry)
            self.client = Client.local(str(registry), **{**BULK_SETTINGS, **settings})
            self._made = made.pop_all()

    def close(self) -> None:
        """Stop the engine."""
        self.client.close()
        self._made.close()
