"""Traffic splits, rollback and promotion on a running server."""

import structlog

from adapters import Traffic
from adapters.registry.rollback import AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote, set_traffic
from service.catalog.catalog import Catalog
from service.releases.writer import RegistryWriter

_log = structlog.get_logger("service")


class Rollouts:
    """Changes which version serves a task's bare name. Every method raises `RegistryUnavailable`."""

    def __init__(self, writer: RegistryWriter, catalog: Catalog) -> None:
        self._writer, self._catalog = writer, catalog

    async def set_traffic(self, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
        """Split the traffic of a task's bare name (`NotFound`, `InvalidTraffic`)."""
        await self._writer.write(lambda registry: set_traffic(registry, tenant, task, traffic, actor=actor))

    async def roll_back(self, tenant: str, task: str, alias: str, *, expected: int | None, actor: str) -> AliasMove:
        """Point an alias back to the version before (`NotFound`, `Conflict`).

        The target is read before the first await, so that one of two simultaneous requests is refused.
        """
        before = self._catalog.history.before(tenant, task, alias)
        move = previous_target(self._catalog.task(tenant, task), before, alias=alias, expected=expected)
        await self._writer.write(lambda registry: roll_back(registry, tenant, task, move, actor=actor))
        _log.info("rolled_back", tenant=tenant, task=task, alias=alias, previous=move.previous, version=move.version)
        return move

    async def promote(
        self, tenant: str, task: str, version: int, *, metric: str | None, force: bool, actor: str
    ) -> Promotion:
        """Point `production` at a version that passes the promotion check.

        Raises:
            NotFound: no such task or version
            PromotionRefused: its metric is worse than that of the production version
            Conflict: production was moved meanwhile
        """
        done = await self._writer.write(
            lambda registry: promote(registry, tenant, task, version, actor=actor, metric=metric, force=force)
        )
        _log.info("promoted", tenant=tenant, task=task, version=version, previous=done.move.previous, forced=force)
        return done
