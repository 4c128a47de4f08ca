"""Summarizes refused requests in the audit log: one entry per tenant and interval."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from adapters import DEFAULT_TENANT
from service.periodic import PeriodicTask
from service.tenancy.accounts import Accounts

INTERVAL_S = 60.0
_MAX_TENANTS = 16
"""Tenants with an entry of their own per interval."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request without a valid key, or with one whose role does not permit it."""

    tenant: str | None
    """None if no valid key was shown."""
    key: str | None
    client: str
    """The client's address."""
    code: str
    """The error's stable code."""


@dataclass(slots=True)
class _Refused:
    """Refusals of one tenant since the last entry."""

    last: Refusal
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def detail(self) -> str:
        parts = ", ".join(f"{count} {code}" for code, count in self.codes.most_common())
        return f"{parts}; the last from {self.last.client}"


class RefusalAudit:
    """Counts refused requests and periodically writes an entry about them. Belongs to the event loop.

    Requests without a valid key are counted for the default tenant, which is the platform's own.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._refused: dict[str, _Refused] = {}
        self._loop = PeriodicTask("refusal-audit", self.write, interval_s=INTERVAL_S)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused request."""
        tenant = refusal.tenant or DEFAULT_TENANT
        if tenant not in self._refused and len(self._refused) >= _MAX_TENANTS:
            return  # the metrics still count it
        found = self._refused.setdefault(tenant, _Refused(refusal))
        found.last = refusal
        found.codes[refusal.code] += 1

    async def write(self) -> None:
        """Write an entry per tenant; if that fails, keep the counts for the next time (`RegistryUnavailable`)."""
        for tenant, refused in list(self._refused.items()):
            detail, key, counted = refused.detail, refused.last.key, Counter(refused.codes)
            await asyncio.to_thread(self._accounts.record_refusals, tenant, detail, key=key)
            refused.codes -= counted
            if not refused.codes:
                del self._refused[tenant]

    async def start(self) -> None:
        """Start writing periodically."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop, and write the remaining entries."""
        await self._loop.stop()
        await self._loop.run_once()
