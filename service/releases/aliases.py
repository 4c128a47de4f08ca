"""Moves and removes aliases under the caller's preconditions."""

from collections.abc import Callable

from adapters import ABSENT, Conflict, NotFound, Ref, Registry, Resolution
from adapters.names import check_alias, check_name
from service.catalog.catalog import Catalog
from service.errors import PreconditionFailed
from service.releases.preconditions import Preconditions, alias_tag
from service.releases.writer import RegistryWriter


class Aliases:
    """Alias changes. A precondition becomes a compare-and-set: the registry must still hold what was checked."""

    def __init__(self, writer: RegistryWriter, catalog: Catalog) -> None:
        self._writer, self._catalog = writer, catalog

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
            RegistryUnavailable
        """

        def move(registry: Registry, current: int | None) -> None:
            required = current if expected is None else expected
            registry.set_alias(tenant, ref.task, str(ref.alias), version, actor=actor, expected=required)

        await self._writer.write(lambda registry: _write_if(conditions, registry, tenant, ref, move))
        return self._catalog.resolve(tenant, Ref(ref.task, version=version))

    async def remove(self, tenant: str, ref: Ref, *, conditions: Preconditions, actor: str) -> None:
        """Remove an alias (`NotFound`, `PreconditionFailed`, `RegistryUnavailable`)."""

        def remove(registry: Registry, current: int | None) -> None:
            registry.delete_alias(tenant, ref.task, str(ref.alias), actor=actor, expected=current)

        await self._writer.write(lambda registry: _write_if(conditions, registry, tenant, ref, remove))


def _write_if(
    conditions: Preconditions,
    registry: Registry,
    tenant: str,
    ref: Ref,
    write: Callable[[Registry, int | None], None],
) -> None:
    """Call `write` with the version that the conditions were checked against, None without conditions."""
    if not conditions:
        write(registry, None)
        return
    check_name("task", ref.task)  # an invalid name is an error of its own, not a failed condition
    check_alias(str(ref.alias))
    current = _current(registry, tenant, ref)
    conditions.check(None if current is None else alias_tag(current))
    try:
        write(registry, ABSENT if current is None else current.version)
    except Conflict as exc:
        raise PreconditionFailed(str(exc)) from exc


def _current(registry: Registry, tenant: str, ref: Ref) -> Resolution | None:
    # reads the registry: the catalog may be one poll interval behind
    try:
        return registry.resolve(tenant, ref)
    except NotFound:
        return None
