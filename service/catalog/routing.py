"""Routing: which version answers a bare task name under its `Traffic`. Pure: what is drawn by lot comes in."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from adapters import PRODUCTION, Ref, Resolution, TaskInfo

MAX_STICKY_KEY_CHARS = 256


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request, and who computes the same rows only to be compared."""

    primary: Resolution
    shadow: Resolution | None = None


def route(task: TaskInfo, ref: Ref, *, sticky_key: str | None, draw: Callable[[], float]) -> Route:
    """Where a request goes. Only the bare name (or `@production`) is split; any other ref means what it says.

    Args:
        sticky_key: the caller's word for whoever shall always get the same version
        draw: a number in [0, 1) for a request without a key

    Raises:
        NotFound, Conflict: as `TaskInfo.resolve`; a canary answers no task that has no production version
    """
    named = task.resolve(ref)
    if ref.alias != PRODUCTION:
        return Route(named)
    traffic, primary = task.traffic, named
    if traffic.canary is not None:
        share = draw() if sticky_key is None else position(task.tenant, task.task, traffic.canary, sticky_key)
        if share * 100 < traffic.percent:
            primary = task.resolve(Ref(task.task, version=traffic.canary))
    if traffic.shadow is None or traffic.shadow == primary.version:
        return Route(primary)
    return Route(primary, task.resolve(Ref(task.task, version=traffic.shadow)))


def position(tenant: str, task: str, canary: int, sticky_key: str) -> float:
    """Where a key stands in [0, 1): the same in every process, and by lot anew with each canary version.

    A key is with the canary where this is below the canary's share. So a share that grows keeps those who were in, and
    the first to get one canary are not the first to get the next.
    """
    # no name has a line break in it, so no two keys of different tasks are hashed alike
    asked = f"{tenant}\n{task}\n{canary}\n{sticky_key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(asked, digest_size=8).digest()[:6]) / (1 << 48)
