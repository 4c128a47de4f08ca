"""Copying a whole registry from one place to another: tasks of every tenant, numbers, files, aliases, traffic, log.

Followers of the copy see nothing of it before its log is there, which comes last.
"""

from collections.abc import Callable
from dataclasses import dataclass

from adapters.errors import Conflict, NotFound
from adapters.registry.archive import Archive


@dataclass(frozen=True, slots=True)
class Copied:
    """Numbers of copied objects."""

    tenants: int
    tasks: int
    versions: int
    adapters: int
    """Digests; several tasks may have one."""
    changes: int


def copy(source: Archive, target: Archive, *, on_version: Callable[[int, int], None] = lambda done, of: None) -> Copied:
    """Copy everything into an empty place.

    Args:
        source: other processes may read it meanwhile, but not write to it
        target: incomplete after an error, and must be emptied before the next attempt
        on_version: called after each version with the number of copied versions and of all versions

    Raises:
        Conflict: the target is not empty, or the source changed meanwhile
        InvalidAdapter: files of the source are damaged
        RegistryUnavailable: either cannot be reached
    """
    found = len(target.records())
    if found or target.changes():
        raise Conflict(f"the place to copy to holds a registry with {found} tasks, expected an empty one")
    log = source.changes()
    records = source.records()
    total, done = sum(len(record.info.versions) for record in records), 0
    for record in records:
        for version in record.info.versions:
            try:
                files = source.get(version.digest)
            except NotFound as exc:
                raise Conflict(f"{exc}: the registry was written to while it was copied") from exc
            target.restore_version(record.info.tenant, record.info.task, version, files)
            done += 1
            on_version(done, total)
        target.restore_task(record)
    if source.changes(log[-1].position if log else 0):
        raise Conflict("the registry was written to while it was copied: stop its writers, begin in an empty place")
    target.restore_log(log)
    return Copied(
        tenants=len({record.info.tenant for record in records}),
        tasks=len(records),
        versions=total,
        adapters=len({version.digest for record in records for version in record.info.versions}),
        changes=len(log),
    )
