"""Routing: the version that answers a bare task name under its `Traffic`. Pure: randomness is passed in."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from adapters import PRODUCTION, Ref, Resolution, TaskInfo

MAX_STICKY_KEY_CHARS = 256


@dataclass(frozen=True, slots=True)
class Route:
    """The version that answers a request, and the shadow that computes the same rows for comparison."""

    primary: Resolution
    shadow: Resolution | None = None


def route(task: TaskInfo, ref: Ref, *, sticky_key: str | None, draw: Callable[[], float]) -> Route:
    """Return the route of a request. Only the bare name (or `@production`) is split; other refs name their version.

    Args:
        sticky_key: the caller's key for requests that must get the same version
        draw: a number in [0, 1) for a request without a key

    Raises:
        NotFound, Conflict: as `TaskInfo.resolve`; a task without production version has no canary
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
    """Return a key's position in [0, 1): the same in every process, and independent for each canary version.

    A key gets the canary if its position is below the canary's share. A growing share thus keeps its keys, and the
    first keys of one canary are not the first of the next.
    """
    # no name has a line break in it, so no two keys of different tasks are hashed alike
    asked = f"{tenant}\n{task}\n{canary}\n{sticky_key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(asked, digest_size=8).digest()[:6]) / (1 << 48)
