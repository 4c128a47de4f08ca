"""In-memory copy of tenants and keys, refreshed by polling their store."""

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from adapters import RegistryUnavailable
from service.errors import AccountsOutdated
from service.periodic import PeriodicTask
from service.tenancy.models import NOTHING, AccountStore, KeyInfo, Snapshot, TenantInfo, is_known

_log = structlog.get_logger("service")
MAX_POLL_INTERVAL_S = 0.25
"""Upper bound, so that every replica rejects a revoked key within a second."""


class AccountCache:
    """The tenants and keys of the last poll. Belongs to the event loop.

    During an outage of the store, keys are verified against the last poll up to a maximum age. Without that limit, a
    key that another server revoked could be accepted for ever.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        poll_interval_s: float,
        max_age_s: float,
        on_change: Callable[[Snapshot], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        Args:
            max_age_s: age of the last successful poll up to which keys are accepted
            on_change: receives all tenants and keys after each change, and at the start
            clock: monotonic time in seconds
        """
        self._store, self._max_age_s, self._clock = store, max_age_s, clock
        self._on_change = on_change
        self._known = NOTHING
        self._confirmed_at = -math.inf
        self._refreshing = asyncio.Lock()
        self._loop = PeriodicTask(
            "account-cache",
            self.refresh,
            interval_s=min(poll_interval_s, MAX_POLL_INTERVAL_S),
            on_down=lambda error: _log.warning("accounts_unavailable", reason=str(error)),
            on_up=lambda: _log.info("accounts_recovered"),
        )

    @property
    def degraded(self) -> bool:
        """Whether the store cannot be read, or the last successful poll is too old."""
        return self._loop.degraded or self.is_outdated

    @property
    def age_s(self) -> float:
        """Seconds since the store was last read successfully."""
        return self._clock() - self._confirmed_at

    @property
    def revision(self) -> int:
        """Number of the last change to tenants and keys that is known."""
        return self._known.revision

    @property
    def is_outdated(self) -> bool:
        """Whether the last successful poll is too old to verify keys."""
        return self.age_s > self._max_age_s

    def tenant(self, tenant: str) -> TenantInfo:
        """Return a tenant's weight and limits; an unknown tenant has no limits."""
        return self._known.tenant(tenant)

    def knows(self, tenant: str) -> bool:
        """Return whether the tenant exists; the default tenant always does."""
        return is_known(self._known, tenant)

    def tenants(self) -> list[TenantInfo]:
        """Return all tenants by name."""
        return sorted((info for info in self._known.tenants.values() if not info.deleted), key=lambda info: info.id)

    def key(self, key_id: str) -> KeyInfo | None:
        """Return a key, if it exists and its tenant is active (`AccountsOutdated`).

        An operator's key is accepted even if an older server has suspended the default tenant.
        """
        if self.is_outdated:
            raise AccountsOutdated(
                "keys cannot be verified at present: the server has lost contact to their store; retry later"
            )
        info = self._known.keys.get(key_id)
        return info if info is not None and (info.role == "operator" or self.tenant(info.tenant).active) else None

    async def start(self) -> None:
        """Read everything once (`RegistryUnavailable`), then start to poll."""
        await self.refresh()
        self._loop.start()

    async def stop(self) -> None:
        """Stop polling."""
        await self._loop.stop()

    async def refresh(self) -> None:
        """Read the store again (`RegistryUnavailable`)."""
        async with self._refreshing:  # of two concurrent reads, the older one must not be applied last
            asked_at = self._clock()
            revision = await asyncio.to_thread(self._store.revision)
            if revision == 0 < self._known.revision:  # emptied by accident: keep accepting the known keys for a while
                raise RegistryUnavailable("the store has lost its tenants and keys; restore it")
            if revision < self._known.revision:
                _log.warning("accounts_restored", todo="keys revoked since the backup are valid again: revoke them")
            if revision != self._known.revision:
                self._known = await asyncio.to_thread(self._store.snapshot)
                self._on_change(self._known)
            self._confirmed_at = asked_at
