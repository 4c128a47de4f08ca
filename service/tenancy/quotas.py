"""Quotas of tenants: requests, tokens and concurrent requests, counted over all replicas."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

from service.errors import AdmissionReason, InvalidRequest, RateLimited
from service.tenancy.models import TenantInfo
from service.tenancy.rate_limiter import ConcurrencySlot, RateCounter

Limit = Literal["requests", "tokens", "concurrency", "changes"]

_REQUESTS_WINDOW_S = 10
_MINUTE_S = 60
_HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Window:
    """A quantity per length of time. Windows follow each other without a gap, numbered by the clock."""

    quantity: int
    length_s: int

    def number(self, now: float) -> int:
        return int(now // self.length_s)

    def left_s(self, now: float) -> int:
        """Return the whole seconds until the next window, at least one."""
        return max(1, math.ceil(self.length_s - now % self.length_s))


def request_window(requests_per_s: float) -> Window:
    """Return the window of a request rate: ten seconds, or as long as ten requests take if that is longer."""
    length_s = _REQUESTS_WINDOW_S if requests_per_s >= 1 else math.ceil(_REQUESTS_WINDOW_S / requests_per_s)
    return Window(max(1, math.floor(requests_per_s * length_s)), length_s)


class Quotas:
    """Admits requests within their tenant's limits and refuses others. A tenant without limits costs nothing.

    A tenant's use is known as of the last reply of the rate counter, to which other replicas add too.
    """

    def __init__(
        self,
        tenant: Callable[[str], TenantInfo],
        rate_counter: RateCounter,
        *,
        max_key_changes_per_hour: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is counted yet.

        Args:
            tenant: returns a tenant's current limits
            rate_counter: where all replicas count
            max_key_changes_per_hour: changes that a tenant's administrators may make to its keys
            clock: Unix time in seconds; windows of replicas agree as well as their clocks do
        """
        self._tenant, self._rate_counter, self._clock = tenant, rate_counter, clock
        self._key_changes = Window(max_key_changes_per_hour, _HOUR_S)
        self._used: dict[tuple[str, Limit], tuple[int, int]] = {}
        """By tenant and limit: the window's number and its use, as of the last reply."""
        self._releasing: set[asyncio.Task[None]] = set()
        """Tasks that release the slots of ended and cancelled requests."""

    def weight(self, tenant: str) -> float:
        """Return the tenant's share of the model and the queue."""
        return self._tenant(tenant).weight

    async def enter(self, tenant: str) -> ConcurrencySlot | None:
        """Count a request and take one of its tenant's concurrency slots, if the tenant has such a limit.

        If the request is cancelled meanwhile, the slot that it would have got is released.

        Raises:
            RateLimited: names the limit, and when to retry
        """
        info = self._tenant(tenant)
        if info.max_concurrency is None and info.requests_per_s is None:
            return None
        entering = asyncio.create_task(self._enter(tenant, info))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._in_background(self._abandon(tenant, entering))
            raise

    async def _enter(self, tenant: str, info: TenantInfo) -> ConcurrencySlot | None:
        slot = None if info.max_concurrency is None else await self._acquire_slot(tenant, info.max_concurrency)
        try:
            if info.requests_per_s is not None:
                await self._count(tenant, "requests", 1, request_window(info.requests_per_s))
        except RateLimited:
            await self._leave(tenant, slot)
            raise
        return slot

    async def leave(self, tenant: str, slot: ConcurrencySlot | None) -> None:
        """Release a request's slot, even if the request is cancelled meanwhile."""
        if slot is not None:
            await asyncio.shield(self._in_background(self._leave(tenant, slot)))

    async def _leave(self, tenant: str, slot: ConcurrencySlot | None) -> None:
        if slot is not None:
            _, held = self._used.get((tenant, "concurrency"), (0, 1))
            self._used[tenant, "concurrency"] = (0, max(0, held - 1))
            await slot.release()

    async def _abandon(self, tenant: str, entering: asyncio.Task[ConcurrencySlot | None]) -> None:
        [slot] = await asyncio.gather(entering, return_exceptions=True)
        if isinstance(slot, ConcurrencySlot):
            await self._leave(tenant, slot)

    def _in_background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)
        return task

    async def charge(self, tenant: str, tokens: int) -> None:
        """Count the tokens of texts that are about to be queued.

        Raises:
            RateLimited: they would exceed the limit and are not counted; says when to retry
            InvalidRequest: they alone exceed the tenant's limit per minute
        """
        limit = self._tenant(tenant).tokens_per_min
        if limit is None:
            return
        if tokens > limit:
            raise InvalidRequest(
                f"inputs have {tokens} tokens, the tenant's limit is {limit} per minute; send fewer at once"
            )
        await self._count(tenant, "tokens", tokens, Window(limit, _MINUTE_S))

    async def count_change(self, tenant: str) -> None:
        """Count a change that a tenant's administrator makes to its keys (`RateLimited`)."""
        await self._count(tenant, "changes", 1, self._key_changes)

    async def charge_more(self, tenant: str, tokens: int) -> None:
        """Count tokens that a request took beyond its charge. If they exceed the limit, the next request is refused."""
        limit = self._tenant(tenant).tokens_per_min
        if limit is None:
            return
        await self._add(tenant, "tokens", tokens, Window(limit, _MINUTE_S), now=self._clock())

    def fields(self, tenant: str) -> dict[str, str]:
        """Return the `RateLimit` headers of a response (draft-ietf-httpapi-ratelimit-headers), if there are limits."""
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
        """Whether this process counts alone although the counts should be shared."""
        return self._rate_counter.degraded

    async def close(self) -> None:
        """Release the slots of cancelled requests, and close the connections of the rate counter."""
        await asyncio.gather(*self._releasing, return_exceptions=True)
        await self._rate_counter.close()

    async def _acquire_slot(self, tenant: str, limit: int) -> ConcurrencySlot:
        slot = await self._rate_counter.acquire(f"{tenant}:concurrency", secrets.token_hex(8), limit=limit)
        self._used[tenant, "concurrency"] = (0, limit if slot is None else slot.held)
        if slot is None:
            raise _refusal(tenant, "concurrency", f"has {limit} requests in progress, its maximum", retry_after_s=1)
        return slot

    async def _add(self, tenant: str, limit: Limit, amount: int, window: Window, *, now: float) -> int:
        """Add to the window that `now` is in, and return its sum."""
        number = window.number(now)
        key = f"{tenant}:{limit}:{window.length_s}:{number}"
        used = await self._rate_counter.add(key, amount, window_s=window.length_s)
        self._used[tenant, limit] = (number, min(used, window.quantity))
        return used

    async def _count(self, tenant: str, limit: Limit, amount: int, window: Window) -> None:
        now = self._clock()
        if await self._add(tenant, limit, amount, window, now=now) <= window.quantity:
            return
        if amount > 1:  # a large request that is refused must not use up the allowance of smaller ones
            await self._add(tenant, limit, -amount, window, now=now)
        what = f"may use {window.quantity} {limit} per {window.length_s} s, which this request exceeds"
        raise _refusal(tenant, limit, what, retry_after_s=window.left_s(now))


def _windows(info: TenantInfo) -> list[tuple[Limit, Window]]:
    windows: list[tuple[Limit, Window]] = []
    if info.requests_per_s is not None:
        windows.append(("requests", request_window(info.requests_per_s)))
    if info.tokens_per_min is not None:
        windows.append(("tokens", Window(info.tokens_per_min, _MINUTE_S)))
    return windows


def _refusal(tenant: str, limit: Limit, what: str, *, retry_after_s: int) -> RateLimited:
    reasons: dict[Limit, AdmissionReason] = {
        "requests": "rate",
        "tokens": "token_rate",
        "concurrency": "concurrency",
        "changes": "rate",
    }
    return RateLimited(f"{limit} limit: tenant {tenant!r} {what}", retry_after_s=retry_after_s, reason=reasons[limit])
