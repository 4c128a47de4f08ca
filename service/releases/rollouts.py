"""Rollouts on a running server: traffic, rollback, promotion; each seen here at once, elsewhere within a poll."""

import asyncio

import structlog

from adapters import Registry, Traffic
from adapters.registry.rollouts import AliasMove, Promotion, previous_target, promote, roll_back, set_traffic
from service.catalog.catalog import Catalog
from service.catalog.sync import CatalogSync

_log = structlog.get_logger("service")


class Rollouts:
    """What changes which version answers a task's bare name. Every method raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry, catalog: Catalog, follower: CatalogSync) -> None:
        self._registry, self._catalog, self._follower = registry, catalog, follower

    async def set_traffic(self, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
        """Split a task's bare name (`NotFound`, `InvalidTraffic`)."""
        await asyncio.to_thread(set_traffic, self._registry, tenant, task, traffic, actor=actor)
        await self._follower.refresh()

    async def roll_back(self, tenant: str, task: str, alias: str, *, expected: int | None, actor: str) -> AliasMove:
        """Point an alias back to where it pointed before (`NotFound`, `Conflict`).

        Where that is, is read before anything is awaited: of two requests that are here together, one is refused.
        """
        before = self._catalog.history.before(tenant, task, alias)
        move = previous_target(self._catalog.task(tenant, task), before, alias=alias, expected=expected)
        await asyncio.to_thread(roll_back, self._registry, tenant, task, move, actor=actor)
        await self._follower.refresh()
        _log.info("rolled_back", tenant=tenant, task=task, alias=alias, previous=move.previous, version=move.version)
        return move

    async def promote(
        self, tenant: str, task: str, version: int, *, metric: str | None, force: bool, actor: str
    ) -> Promotion:
        """Point `production` at a version that passes the gate (`NotFound`, `PromotionRefused`, `Conflict`)."""
        done = await asyncio.to_thread(
            promote, self._registry, tenant, task, version, actor=actor, metric=metric, force=force
        )
        await self._follower.refresh()
        _log.info("promoted", tenant=tenant, task=task, version=version, previous=done.move.previous, forced=force)
        return done
