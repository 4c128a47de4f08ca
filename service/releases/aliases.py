"""Aliases moved and removed on a running server, under the caller's conditions; seen here at once."""

import asyncio
from collections.abc import Callable

from adapters import ABSENT, Conflict, NotFound, Ref, Registry, Resolution
from adapters.names import check_alias, check_name
from service.catalog.catalog import Catalog
from service.catalog.sync import CatalogSync
from service.errors import PreconditionFailed
from service.releases.preconditions import Preconditions, alias_tag


class Aliases:
    """Conditions become the registry's compare-and-set: what they were held against is what it must still find."""

    def __init__(self, registry: Registry, catalog: Catalog, follower: CatalogSync) -> None:
        self._registry, self._catalog, self._follower = registry, catalog, follower

    async def move(
        self,
        tenant: str,
        ref: Ref,
        version: int,
        *,
        expected: int | None,
        conditions: Preconditions,
        actor: str,
    ) -> Resolution:
        """Point an alias at a version.

        Args:
            ref: the task with the alias
            expected: the version that it must point at now, None for any
            conditions: what must hold of its tag

        Raises:
            InvalidName: of task or alias
            NotFound: no such task or version
            Conflict: it does not point at `expected`, without other conditions
            PreconditionFailed: the conditions do not hold
            RegistryUnavailable
        """
        alias = str(ref.alias)

        def write(seen: int | None) -> None:
            wanted = seen if expected is None else expected
            self._registry.set_alias(tenant, ref.task, alias, version, actor=actor, expected=wanted)

        await asyncio.to_thread(self._write, tenant, ref, conditions, write)
        await self._follower.refresh()
        return self._catalog.resolve(tenant, Ref(ref.task, version=version))

    async def remove(self, tenant: str, ref: Ref, *, conditions: Preconditions, actor: str) -> None:
        """Remove an alias (`NotFound`, `PreconditionFailed`, `RegistryUnavailable`)."""
        alias = str(ref.alias)

        def write(seen: int | None) -> None:
            self._registry.delete_alias(tenant, ref.task, alias, actor=actor, expected=seen)

        await asyncio.to_thread(self._write, tenant, ref, conditions, write)
        await self._follower.refresh()

    def _write(self, tenant: str, ref: Ref, conditions: Preconditions, write: Callable[[int | None], None]) -> None:
        if not conditions:
            write(None)
            return
        check_name("task", ref.task)  # a name that cannot be is no state that could change
        check_alias(str(ref.alias))
        current = self._current(tenant, ref)
        conditions.check(None if current is None else alias_tag(current))
        try:
            write(ABSENT if current is None else current.version)
        except Conflict as exc:
            raise PreconditionFailed(str(exc)) from exc

    def _current(self, tenant: str, ref: Ref) -> Resolution | None:
        # asked of the registry, not of the catalog, which may be a poll behind
        try:
            return self._registry.resolve(tenant, ref)
        except NotFound:
            return None
