"""Copy of a whole registry: all tenants' tasks, versions, files, aliases, traffic, and the log.

The log is written last: until then, servers that poll the copy see nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from adapters.errors import Conflict, NotFound
from adapters.registry.archive import Archive


@dataclass(frozen=True, slots=True)
class Copied:
    """Counts of what was copied."""

    tenants: int
    tasks: int
    versions: int
    adapters: int
    """Distinct digests; several tasks may share one."""
    changes: int


def copy(source: Archive, target: Archive, *, on_version: Callable[[int, int], None] = lambda done, of: None) -> Copied:
    """Copy everything into an empty archive.

    Args:
        source: must not be written to meanwhile
        target: after an error it is incomplete, and cannot be the target of another attempt
        on_version: receives, after each version, the number copied and the total

    Raises:
        Conflict: the target is not empty, or the source changed meanwhile
        InvalidAdapter: files in the source are damaged
        RegistryUnavailable: either cannot be reached
    """
    found = len(target.records())
    if found or target.changes():
        raise Conflict(f"the target is a registry with {found} tasks, expected an empty one")
    log = source.changes()
    records = source.records()
    total, done = sum(len(record.info.versions) for record in records), 0
    for record in records:
        for version in record.info.versions:
            try:
                files = source.files(record.info.tenant, record.info.task, version.version)
            except NotFound as exc:
                raise Conflict(f"{exc}: the registry was written to while it was copied") from exc
            target.restore_version(record.info.tenant, record.info.task, version, files)
            done += 1
            on_version(done, total)
        target.restore_task(record)
    if source.changes(log[-1].position if log else 0):
        raise Conflict("the registry was written to while it was copied: stop its writers, use an empty target")
    target.restore_log(log)
    return Copied(
        tenants=len({record.info.tenant for record in records}),
        tasks=len(records),
        versions=total,
        adapters=len({version.digest for record in records for version in record.info.versions}),
        changes=len(log),
    )
