"""Moves and removes aliases under the caller's preconditions."""

from adapters import Ref, Registry, Resolution
from service.catalog.catalog import Catalog
from service.releases.preconditions import Preconditions, checked_alias, compare_and_set
from service.releases.storage_quota import StorageQuota
from service.releases.writer import RegistryWriter


class Aliases:
    """Alias changes. A precondition becomes a compare-and-set: the registry must still hold what was checked."""

    def __init__(self, writer: RegistryWriter, catalog: Catalog, quota: StorageQuota) -> None:
        self._writer, self._catalog, self._quota = writer, catalog, quota

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
            ref: the task and the alias
            expected: the version that the alias must point at now; None accepts any
            conditions: preconditions on the alias's entity tag

        Raises:
            InvalidName: an invalid task or alias name
            NotFound: no such task or version
            Conflict: the alias does not point at `expected`, and there are no other conditions
            PreconditionFailed: the conditions do not hold
            LimitReached, QuotaExceeded: the alias is new, and the task or the tenant has the maximum number
            RegistryUnavailable
        """
        self._quota.check_aliases(tenant, ref.task, [str(ref.alias)])

        def move(registry: Registry) -> None:
            current = checked_alias(conditions, registry, tenant, ref)
            required = current if expected is None else expected
            with compare_and_set(conditions):
                registry.set_alias(tenant, ref.task, str(ref.alias), version, actor=actor, expected=required)

        await self._writer.write(move)
        return self._catalog.resolve(tenant, Ref(ref.task, version=version))

    async def remove(self, tenant: str, ref: Ref, *, conditions: Preconditions, actor: str) -> None:
        """Remove an alias (`NotFound`, `PreconditionFailed`, `RegistryUnavailable`)."""

        def remove(registry: Registry) -> None:
            current = checked_alias(conditions, registry, tenant, ref)
            with compare_and_set(conditions):
                registry.delete_alias(tenant, ref.task, str(ref.alias), actor=actor, expected=current)

        await self._writer.write(remove)
