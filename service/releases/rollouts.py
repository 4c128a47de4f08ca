"""Traffic splits, rollback and promotion on a running server."""

import structlog

from adapters import ABSENT, PRODUCTION, Ref, Registry, Traffic
from adapters.registry.protocol import check_expected
from adapters.registry.rollback import AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote, set_traffic
from service.catalog.catalog import Catalog
from service.releases.preconditions import Preconditions, checked_alias, compare_and_set, traffic_tag
from service.releases.writer import RegistryWriter

_log = structlog.get_logger("service")


class Rollouts:
    """Changes which version serves a task's bare name. Every method raises `RegistryUnavailable`."""

    def __init__(self, writer: RegistryWriter, catalog: Catalog) -> None:
        self._writer, self._catalog = writer, catalog

    async def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, conditions: Preconditions, actor: str
    ) -> None:
        """Split the traffic of a task's bare name (`NotFound`, `InvalidTraffic`, `PreconditionFailed`)."""

        def change(registry: Registry) -> None:
            current = registry.describe(tenant, task).traffic if conditions else None
            if current is not None:
                conditions.check(traffic_tag(current))
            with compare_and_set(conditions):
                set_traffic(registry, tenant, task, traffic, actor=actor, expected=current)

        await self._writer.write(change)

    async def roll_back(
        self, tenant: str, task: str, alias: str, *, expected: int | None, conditions: Preconditions, actor: str
    ) -> AliasMove:
        """Point an alias back to the version before (`NotFound`, `Conflict`, `PreconditionFailed`).

        The target is read before the first await, so that one of two simultaneous requests is refused.

        Args:
            conditions: preconditions on the alias's entity tag
        """
        before = self._catalog.history.before(tenant, task, alias)
        move = previous_target(self._catalog.task(tenant, task), before, alias=alias, expected=expected)

        def change(registry: Registry) -> None:
            current = checked_alias(conditions, registry, tenant, Ref(task, alias=alias))
            with compare_and_set(conditions):
                check_expected(f"{task}@{alias}", move.previous or ABSENT, current)
                roll_back(registry, tenant, task, move, actor=actor)

        await self._writer.write(change)
        _log.info("rolled_back", tenant=tenant, task=task, alias=alias, previous=move.previous, version=move.version)
        return move

    async def promote(
        self,
        tenant: str,
        task: str,
        version: int,
        *,
        metric: str | None,
        force: bool,
        conditions: Preconditions,
        actor: str,
    ) -> Promotion:
        """Point `production` at a version that passes the promotion check.

        Args:
            conditions: preconditions on the entity tag of `production`

        Raises:
            NotFound: no such task or version
            PromotionRefused: its metric is worse than that of the production version
            Conflict: production was moved meanwhile
            PreconditionFailed: the conditions do not hold
        """

        def change(registry: Registry) -> Promotion:
            current = checked_alias(conditions, registry, tenant, Ref(task, alias=PRODUCTION))
            with compare_and_set(conditions):
                return promote(
                    registry, tenant, task, version, actor=actor, metric=metric, force=force, expected=current
                )

        done = await self._writer.write(change)
        _log.info("promoted", tenant=tenant, task=task, version=version, previous=done.move.previous, forced=force)
        return done
