"""How much a tenant may store: tasks, versions of each, bytes. Refused before anything is stored."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from adapters import Registry
from service.catalog.catalog import Catalog
from service.catalog.sync import CatalogSync
from service.errors import QuotaExceeded
from service.tenancy.models import TenantInfo


class StorageQuota:
    """Belongs to the event loop.

    Uploads of one tenant are stored one after the other on each replica, each counted against what the registry holds
    by then; two replicas that store for one tenant at the same moment may pass its limit by one upload.
    """

    def __init__(
        self, registry: Registry, catalog: Catalog, follower: CatalogSync, tenant: Callable[[str], TenantInfo]
    ) -> None:
        self._registry, self._catalog, self._follower, self._tenant = registry, catalog, follower, tenant
        self._storing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def check(self, tenant: str, task: str, digest: str, files: Mapping[str, bytes]) -> None:
        """Refuse what would not fit beside what is known to be stored.

        Raises:
            QuotaExceeded: says which limit, and its value
            RegistryUnavailable: the stored bytes cannot be counted
        """
        limits = self._tenant(tenant)
        if not _limited(limits):
            return
        tasks = {info.task: info for info in self._catalog.tasks(tenant)}
        versions = tasks[task].versions if task in tasks else ()
        if any(version.digest == digest for version in versions):
            return  # no version is made of it
        if task not in tasks:
            _refuse_past(tenant, "tasks", len(tasks) + 1, limits.max_tasks)
        _refuse_past(tenant, f"versions of {task}", len(versions) + 1, limits.max_versions)
        if limits.max_bytes is not None:
            stored = {version.digest for info in tasks.values() for version in info.versions}
            size_bytes = await asyncio.to_thread(self._registry.size_bytes, stored - {digest})
            size_bytes += sum(map(len, files.values()))
            _refuse_past(tenant, "bytes", size_bytes, limits.max_bytes)

    @asynccontextmanager
    async def storing(self, tenant: str, task: str, digest: str, files: Mapping[str, bytes]) -> AsyncIterator[None]:
        """Store within this; raises as `check`, by what the registry holds now."""
        if not _limited(self._tenant(tenant)):
            yield
            return
        lock = self._storing.setdefault(tenant, asyncio.Lock())
        async with lock:
            await self._follower.refresh()
            await self.check(tenant, task, digest, files)
            yield


def _limited(limits: TenantInfo) -> bool:
    return (limits.max_tasks, limits.max_versions, limits.max_bytes) != (None, None, None)


def _refuse_past(tenant: str, what: str, wanted: int, limit: int | None) -> None:
    if limit is not None and wanted > limit:
        raise QuotaExceeded(f"tenant {tenant!r} would have {wanted} {what}, its limit is {limit}; delete some first")
