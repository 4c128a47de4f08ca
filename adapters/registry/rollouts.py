"""What is done to a task's traffic over any registry: split it, roll back, promote. Blocking: not for an event loop."""

from dataclasses import dataclass, replace

from adapters.errors import Conflict, InvalidTraffic, NotFound
from adapters.files import from_files
from adapters.names import PRODUCTION, Ref
from adapters.registry.promotion import check_promotion
from adapters.registry.protocol import Registry, TaskInfo, Traffic


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias from one version to another."""

    alias: str
    previous: int | None
    """Where it pointed before; None where it pointed nowhere."""
    version: int


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version in production's place."""

    move: AliasMove
    metric: str | None
    """The figure that let it pass; None where it was forced."""


def set_traffic(registry: Registry, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
    """Split a task's bare name.

    Raises:
        NotFound: no such task, or it lacks a version that the traffic needs
        InvalidTraffic: canary or shadow is production's own version
    """
    production = registry.describe(tenant, task).aliases.get(PRODUCTION)
    for role, version in (("canary", traffic.canary), ("shadow", traffic.shadow)):
        if version is not None and version == production:
            raise InvalidTraffic(f"{role} is version {version}, which production is already, expected another")
    registry.set_traffic(tenant, task, traffic, actor=actor)


def previous_target(
    info: TaskInfo, before: int | None, *, alias: str = PRODUCTION, expected: int | None = None
) -> AliasMove:
    """The move that takes an alias back to where it pointed before.

    Args:
        before: where that is, by `AliasHistory`
        expected: the version that the alias must point at now, if the caller says so

    Raises:
        NotFound: no such alias
        Conflict: it points elsewhere than expected, or never pointed at another version that still exists
    """
    current = info.aliases.get(alias)
    if current is None:
        raise NotFound(f"no {info.task}@{alias}")
    if expected is not None and current != expected:
        raise Conflict(f"{info.task}@{alias} points at version {current}, expected version {expected}")
    if before is None:
        raise Conflict(f"{info.task}@{alias} points at version {current}, and at none that still exists before it")
    return AliasMove(alias, current, before)


def roll_back(registry: Registry, tenant: str, task: str, move: AliasMove, *, actor: str) -> None:
    """Make a step back, unless somebody moved the alias meanwhile: of two at once, one does.

    Of `production` this ends a canary too: whoever rolls back wants one known version to answer.

    Raises:
        NotFound: the version is gone meanwhile
        Conflict: the alias does not point at `move.previous` any more
    """
    registry.set_alias(tenant, task, move.alias, move.version, actor=actor, expected=move.previous)
    if move.alias == PRODUCTION:
        traffic = registry.describe(tenant, task).traffic
        kept = None if traffic.shadow == move.version else traffic.shadow
        registry.set_traffic(tenant, task, Traffic(shadow=kept), actor=actor)


def promote(
    registry: Registry,
    tenant: str,
    task: str,
    version: int,
    *,
    actor: str,
    metric: str | None = None,
    force: bool = False,
) -> Promotion:
    """Point `production` at a version that is no worse by its card, and end its time as canary or shadow.

    Raises:
        NotFound: no such task or version
        PromotionRefused: see `check_promotion`; never where forced
        Conflict: production moved meanwhile
    """
    info = registry.describe(tenant, task)
    current = info.aliases.get(PRODUCTION)
    passed = None if force else _check(registry, tenant, info, version, metric)
    registry.set_alias(tenant, task, PRODUCTION, version, actor=actor, expected=current)
    traffic = registry.describe(tenant, task).traffic
    if traffic.canary == version:
        traffic = replace(traffic, canary=None, percent=0.0)
    if traffic.shadow == version:
        traffic = replace(traffic, shadow=None)
    registry.set_traffic(tenant, task, traffic, actor=actor)
    return Promotion(AliasMove(PRODUCTION, current, version), passed)


def _check(registry: Registry, tenant: str, info: TaskInfo, version: int, metric: str | None) -> str:
    numbers = {"candidate": version, "current": info.aliases.get(PRODUCTION)}
    adapters = {
        role: from_files(registry.get(registry.resolve(tenant, Ref(info.task, version=number)).digest))
        for role, number in numbers.items()
        if number is not None
    }
    return check_promotion(adapters["candidate"], adapters.get("current"), metric=metric)
