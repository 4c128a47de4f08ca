"""How much a tenant may ask for: requests, tokens and requests at once, counted over all replicas."""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.errors import AdmissionReason, InvalidRequest, RateLimited
from service.tenancy.models import TenantInfo
from service.tenancy.rate_limiter import ConcurrencySlot, RateCounter

Limit = Literal["requests", "tokens", "concurrency"]

_REQUESTS_WINDOW_S = 10
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Window:
    """How much of something in how long; windows follow each other without a gap, numbered by the clock."""

    quantity: int
    length_s: int

    def number(self, now: float) -> int:
        return int(now // self.length_s)

    def left_s(self, now: float) -> int:
        """Whole seconds until the next begins, one or more."""
        return max(1, math.ceil(self.length_s - now % self.length_s))


def request_window(requests_per_s: float) -> Window:
    """Ten seconds' worth at once, or ten requests' where that takes longer."""
    length_s = _REQUESTS_WINDOW_S if requests_per_s >= 1 else math.ceil(_REQUESTS_WINDOW_S / requests_per_s)
    return Window(max(1, math.floor(requests_per_s * length_s)), length_s)


class Quotas:
    """Takes requests of tenants within their limits, refuses others. A tenant without limits costs nothing.

    What it knows of a tenant's use is as of its last answer from the meter, which other replicas count on too.
    """

    def __init__(
        self, tenant: Callable[[str], TenantInfo], meter: RateCounter, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Nothing is counted yet.

        Args:
            tenant: a tenant's limits now
            meter: where all replicas count
            clock: Unix time in seconds; replicas' windows agree as well as their clocks do
        """
        self._tenant, self._meter, self._clock = tenant, meter, clock
        self._used: dict[tuple[str, Limit], tuple[int, int]] = {}
        """The window's number, and what was used of it when last asked; of limits that there are."""

    def weight(self, tenant: str) -> float:
        """The tenant's share of the model and the queue."""
        return self._tenant(tenant).weight

    async def enter(self, tenant: str) -> ConcurrencySlot | None:
        """Count a request, and take its place among those that are answered at once; None where there is no limit.

        Raises:
            RateLimited: says which limit, and when to come again
        """
        info = self._tenant(tenant)
        if info.max_concurrency is None and info.requests_per_s is None:
            return None
        lease = None if info.max_concurrency is None else await self._take_place(tenant, info.max_concurrency)
        try:
            if info.requests_per_s is not None:
                await self._count(tenant, "requests", 1, request_window(info.requests_per_s))
        except RateLimited:
            await self.leave(tenant, lease)
            raise
        return lease

    async def leave(self, tenant: str, lease: ConcurrencySlot | None) -> None:
        """Give a request's place back."""
        if lease is not None:
            _, held = self._used.get((tenant, "concurrency"), (0, 1))
            self._used[tenant, "concurrency"] = (0, max(0, held - 1))
            await lease.give_back()

    async def charge(self, tenant: str, tokens: int) -> None:
        """Count the tokens of texts that the model is about to see.

        Raises:
            RateLimited: they are not counted then; says when to come again
            InvalidRequest: there are more than the tenant ever has at once
        """
        limit = self._tenant(tenant).tokens_per_min
        if limit is None:
            return
        if tokens > limit:
            raise InvalidRequest(f"inputs have {tokens} tokens, the tenant has {limit} a minute; send fewer at once")
        await self._count(tenant, "tokens", tokens, Window(limit, _MINUTE_S))

    def fields(self, tenant: str) -> dict[str, str]:
        """The `RateLimit` fields of an answer (IETF draft-ietf-httpapi-ratelimit-headers); none without a limit."""
        info, now = self._tenant(tenant), self._clock()
        policy, state = [], []
        for limit, window in _windows(info):
            number, used = self._used.get((tenant, limit), (0, 0))
            left = max(0, window.quantity - (used if number == window.number(now) else 0))
            policy.append(f'"{limit}";q={window.quantity};w={window.length_s}')
            state.append(f'"{limit}";r={left};t={window.left_s(now)}')
        if info.max_concurrency is not None:
            _, held = self._used.get((tenant, "concurrency"), (0, 0))
            policy.append(f'"concurrency";q={info.max_concurrency}')
            state.append(f'"concurrency";r={max(0, info.max_concurrency - held)}')
        return {"RateLimit-Policy": ", ".join(policy), "RateLimit": ", ".join(state)} if policy else {}

    @property
    def degraded(self) -> bool:
        """Whether this process counts by itself although others should be counted too."""
        return self._meter.degraded

    async def close(self) -> None:
        """Let go of the meter."""
        await self._meter.close()

    async def _take_place(self, tenant: str, limit: int) -> ConcurrencySlot:
        lease = await self._meter.acquire(f"{tenant}:concurrency", secrets.token_hex(8), limit=limit)
        self._used[tenant, "concurrency"] = (0, limit if lease is None else lease.held)
        if lease is None:
            raise _refusal(tenant, "concurrency", f"answers {limit} requests at once", retry_after_s=1)
        return lease

    async def _count(self, tenant: str, limit: Limit, amount: int, window: Window) -> None:
        now = self._clock()
        number = window.number(now)
        key = f"{tenant}:{limit}:{window.length_s}:{number}"
        used = await self._meter.add(key, amount, window_s=window.length_s)
        if used <= window.quantity:
            self._used[tenant, limit] = (number, used)
            return
        if amount > 1:  # a large request that is refused must not use up what smaller ones may have
            used = await self._meter.add(key, -amount, window_s=window.length_s)
        self._used[tenant, limit] = (number, min(used, window.quantity))
        what = f"has {window.quantity} {limit} in {window.length_s} s, and this would be more"
        raise _refusal(tenant, limit, what, retry_after_s=window.left_s(now))


def _windows(info: TenantInfo) -> list[tuple[Limit, Window]]:
    windows: list[tuple[Limit, Window]] = []
    if info.requests_per_s is not None:
        windows.append(("requests", request_window(info.requests_per_s)))
    if info.tokens_per_min is not None:
        windows.append(("tokens", Window(info.tokens_per_min, _MINUTE_S)))
    return windows


def _refusal(tenant: str, limit: Limit, what: str, *, retry_after_s: int) -> RateLimited:
    reasons: dict[Limit, AdmissionReason] = {"requests": "rate", "tokens": "token_rate", "concurrency": "concurrency"}
    return RateLimited(f"{limit} limit: tenant {tenant!r} {what}", retry_after_s=retry_after_s, reason=reasons[limit])
