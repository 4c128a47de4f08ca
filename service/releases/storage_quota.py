"""Storage limits of a tenant: tasks, versions per task, bytes, aliases."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from adapters import NotFound, Registry, VersionInfo
from adapters.files import content_id
from service.catalog.catalog import Catalog
from service.catalog.sync import CatalogSync
from service.errors import QuotaExceeded
from service.tenancy.models import TenantInfo


class StorageQuota:
    """Checks uploads against the limits. Belongs to the event loop.

    Each replica handles the uploads of a limited tenant one at a time, each checked against what the registry holds by
    then. Two replicas that store for the same tenant at the same moment may exceed a limit by one upload.
    """

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        sync: CatalogSync,
        tenant: Callable[[str], TenantInfo],
        *,
        max_aliases: int,
    ) -> None:
        self._registry, self._catalog, self._sync, self._tenant = registry, catalog, sync, tenant
        self._max_aliases = max_aliases
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def reserve(self, tenant: str, task: str, digest: str, files: Mapping[str, bytes]) -> AsyncIterator[None]:
        """Enter if one more version fits; the tenant's other uploads wait until the block ends.

        Raises:
            QuotaExceeded: names the limit and its value
            RegistryUnavailable: the stored bytes cannot be counted
        """
        if not _is_limited(self._tenant(tenant)):
            yield
            return
        lock = self._locks.setdefault(tenant, asyncio.Lock())
        async with lock:
            await self._sync.refresh()
            await self._check(self._tenant(tenant), task, digest, files)
            yield

    def check_aliases(self, tenant: str, task: str, moving: Sequence[str]) -> None:
        """Refuse new aliases beyond the limit; concurrent requests may exceed it by the aliases that they create.

        Raises:
            QuotaExceeded: names the limit and its value
        """
        try:
            known = self._catalog.task(tenant, task).aliases
        except NotFound:
            known = {}
        if new := set(moving) - set(known):
            _refuse_above(tenant, "aliases", self._catalog.num_aliases(tenant) + len(new), self._max_aliases)

    async def _check(self, limits: TenantInfo, task: str, digest: str, files: Mapping[str, bytes]) -> None:
        try:
            versions: Sequence[VersionInfo] | None = self._catalog.task(limits.id, task).versions
        except NotFound:
            versions = None
        await asyncio.to_thread(
            check_room,
            limits,
            task,
            digest,
            files,
            versions=versions,
            num_tasks=lambda: self._catalog.num_tasks(limits.id),
            stored=lambda: self._registry.content_sizes(limits.id),
        )


def check_room(
    limits: TenantInfo,
    task: str,
    digest: str,
    files: Mapping[str, bytes],
    *,
    versions: Sequence[VersionInfo] | None,
    num_tasks: Callable[[], int],
    stored: Callable[[], Mapping[str, int]],
) -> None:
    """Refuse a version that exceeds its tenant's limits; a version that the task has already needs no room.

    Args:
        limits: the tenant's
        task: its task
        digest: of the adapter
        files: its files
        versions: the task's; None for a new task
        num_tasks: counts the tenant's tasks
        stored: returns the bytes of each set of files that the tenant has (`Registry.content_sizes`)

    Raises:
        QuotaExceeded: names the limit and its value
        RegistryUnavailable: the tasks or bytes cannot be counted
    """
    if versions is None:
        _refuse_above(limits.id, "tasks", num_tasks() + 1, limits.max_tasks)
    elif any(version.digest == digest for version in versions):
        return  # publishing makes no new version
    _refuse_above(limits.id, f"versions of {task}", len(versions or ()) + 1, limits.max_versions)
    if limits.max_bytes is not None:
        wanted = {**stored(), content_id(files): sum(map(len, files.values()))}
        _refuse_above(limits.id, "bytes", sum(wanted.values()), limits.max_bytes)


def _is_limited(limits: TenantInfo) -> bool:
    return (limits.max_tasks, limits.max_versions, limits.max_bytes) != (None, None, None)


def _refuse_above(tenant: str, what: str, wanted: int, limit: int | None) -> None:
    if limit is not None and wanted > limit:
        raise QuotaExceeded(f"tenant {tenant!r} would have {wanted} {what}, its limit is {limit}; delete some first")
