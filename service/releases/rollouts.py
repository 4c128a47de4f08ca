"""Traffic splits, rollback and promotion on a running server."""

import asyncio
import time
from dataclasses import dataclass, replace

import structlog

from adapters import (
    ABSENT,
    PRODUCTION,
    OutcomeUnknown,
    Ref,
    Registry,
    RegistryReadOnly,
    RegistryUnavailable,
    Traffic,
)
from adapters.registry.protocol import check_expected
from adapters.registry.rollback import AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote
from service.catalog.catalog import Catalog
from service.releases.correction_gate import CorrectionGate
from service.releases.preconditions import Preconditions, checked_alias, compare_and_set, traffic_tag
from service.releases.writer import RegistryWriter

_REMEMBERED_S = 600.0
"""How long a rollback that was not confirmed is recognised when it is repeated."""
_MAX_REMEMBERED = 1_000
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """A rollback whose outcome the caller does not know."""

    move: AliasMove
    until: float


class Rollouts:
    """Changes which version serves a task's bare name. Every method raises `RegistryUnavailable`."""

    def __init__(self, writer: RegistryWriter, catalog: Catalog, gate: CorrectionGate) -> None:
        self._writer, self._catalog, self._gate = writer, catalog, gate
        self._unconfirmed: dict[tuple[str, str, str], _Unconfirmed] = {}

    async def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, conditions: Preconditions, actor: str
    ) -> None:
        """Split the traffic of a task's bare name (`NotFound`, `InvalidTraffic`, `PreconditionFailed`)."""

        def change(registry: Registry) -> None:
            current = registry.describe(tenant, task).traffic if conditions else None
            if current is not None:
                conditions.check(traffic_tag(current))
            with compare_and_set(conditions):
                registry.set_traffic(tenant, task, traffic, actor=actor, expected=current)

        await self._writer.write(change)

    async def roll_back(
        self, tenant: str, task: str, alias: str, *, expected: int | None, conditions: Preconditions, actor: str
    ) -> AliasMove:
        """Point an alias back to the version before (`NotFound`, `Conflict`, `PreconditionFailed`).

        The target is read before the first await, so that one of two simultaneous requests is refused.
        Repeating a rollback that was not confirmed does not move the alias again. Without `expected`, only this process
        recognises the repetition.

        Args:
            conditions: preconditions on the alias's entity tag

        Raises:
            OutcomeUnknown: the registry did not confirm the move
        """
        key = (tenant, task, alias)
        named = expected is not None or bool(conditions)  # a repeat is then refused once the alias has moved
        unconfirmed = self._unconfirmed.pop(key, None)
        if unconfirmed is not None and not named and time.monotonic() < unconfirmed.until:
            await self._writer.refresh()
            if self._catalog.task(tenant, task).aliases.get(alias) == unconfirmed.move.version:
                return unconfirmed.move
        move = previous_target(self._catalog.task(tenant, task), self._catalog.history, alias=alias, expected=expected)

        def change(registry: Registry) -> None:
            current = checked_alias(conditions, registry, tenant, Ref(task, alias=alias))
            with compare_and_set(conditions):
                check_expected(f"{task}@{alias}", move.previous or ABSENT, current)
                roll_back(registry, tenant, task, move, actor=actor)

        try:
            await self._writer.write(change)
        except RegistryReadOnly:
            raise
        except RegistryUnavailable as exc:
            if not named:
                self._remember(key, move)
            raise OutcomeUnknown(
                f"the registry did not confirm that {task}@{alias} went back from version {move.previous} to "
                f"{move.version}; to repeat it safely, send the version that it left: expected {move.previous}"
            ) from exc
        except asyncio.CancelledError:  # the caller disconnected, and may repeat the request
            if not named:
                self._remember(key, move)
            raise
        _log.info("rolled_back", tenant=tenant, task=task, alias=alias, previous=move.previous, version=move.version)
        return move

    def _remember(self, key: tuple[str, str, str], move: AliasMove) -> None:
        while len(self._unconfirmed) >= _MAX_REMEMBERED:
            del self._unconfirmed[next(iter(self._unconfirmed))]
        self._unconfirmed[key] = _Unconfirmed(move, time.monotonic() + _REMEMBERED_S)

    async def promote(
        self,
        tenant: str,
        task: str,
        version: int,
        *,
        metric: str | None,
        force: bool,
        expected: int | None,
        conditions: Preconditions,
        actor: str,
        corrections: bool = False,
    ) -> Promotion:
        """Point `production` at a version that passes the promotion check.

        Args:
            corrections: whether it must also answer the task's corrections better than production
            expected: the version that `production` must point at now; None accepts any
            conditions: preconditions on the entity tag of `production`

        Raises:
            NotFound: no such task or version
            PromotionRefused: its metric is worse than that of the production version, or it does not answer the
                corrections better
            RetentionOff: corrections are to be compared, of a tenant that keeps no texts
            Conflict: production does not point at `expected`, or was moved meanwhile
            PreconditionFailed: the conditions do not hold
        """
        compared = None
        if corrections:
            # only if production is still the version that was compared
            production = self._catalog.task(tenant, task).aliases.get(PRODUCTION)
            compared = await self._gate.compare(tenant, task, version, production)
            expected = (production or ABSENT) if expected is None else expected

        def change(registry: Registry) -> Promotion:
            current = checked_alias(conditions, registry, tenant, Ref(task, alias=PRODUCTION))
            required = current if expected is None else expected
            with compare_and_set(conditions):
                return promote(
                    registry, tenant, task, version, actor=actor, metric=metric, force=force, expected=required
                )

        done = replace(await self._writer.write(change), corrections=None if compared is None else str(compared))
        _log.info("promoted", tenant=tenant, task=task, version=version, previous=done.move.previous, forced=force)
        return done
