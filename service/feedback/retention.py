"""How long and how much of its texts a tenant keeps, and the task that deletes what is older."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from service.errors import RetentionOff
from service.feedback.rows import FeedbackRows
from service.periodic import PeriodicTask
from service.tenancy.models import TenantInfo

_DAY_S = 86_400.0
_INTERVAL_S = 60.0
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of a tenant that has opted in."""

    days: int
    max_bytes: int

    @property
    def seconds(self) -> float:
        return self.days * _DAY_S


class Retentions:
    """The retention of each tenant.

    Args:
        tenant: returns a tenant's current settings
        max_bytes: bytes that a tenant without a limit of its own may keep, and the most that its limit allows
    """

    def __init__(self, tenant: Callable[[str], TenantInfo], *, max_bytes: int) -> None:
        self._tenant, self.max_bytes = tenant, max_bytes

    def of(self, tenant: str) -> Retention | None:
        """Return a tenant's retention; None for a tenant that has not opted in."""
        info = self._tenant(tenant)
        if info.retention_days is None or info.deleted:
            return None
        return Retention(info.retention_days, min(info.max_feedback_bytes or self.max_bytes, self.max_bytes))

    def require(self, tenant: str) -> Retention:
        """Return the retention of a tenant that must have opted in (`RetentionOff`)."""
        found = self.of(tenant)
        if found is None:
            raise RetentionOff(
                f"tenant {tenant!r} keeps no texts, so there is no feedback; an operator opts it in: superpos tenant "
                f"update {tenant} --retention-days 30"
            )
        return found


class RetentionSweeper:
    """Deletes expired rows, and all rows of tenants that no longer keep texts, once a minute.

    Any number of servers may do so at once.

    Args:
        rows: the rows
        retentions: by which rows expire
        on_expired: receives the number of rows that were deleted
        now: seconds since 1970
    """

    def __init__(
        self,
        rows: FeedbackRows,
        retentions: Retentions,
        *,
        on_expired: Callable[[int], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._retentions, self._on_expired, self._now = rows, retentions, on_expired, now
        self._loop = PeriodicTask(
            "feedback-retention",
            self.sweep,
            interval_s=_INTERVAL_S,
            on_down=lambda error: _log.warning("feedback_not_expired", reason=str(error)),
        )

    async def start(self) -> None:
        """Delete what has expired every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop deleting."""
        await self._loop.stop()

    async def sweep(self) -> None:
        """Delete the expired rows of all tenants (`RegistryUnavailable`)."""
        now = self._now()
        for tenant in await asyncio.to_thread(self._rows.store.tenants):
            retention = self._retentions.of(tenant)
            before = now + 1 if retention is None else now - retention.seconds
            expired = await asyncio.to_thread(self._rows.expire, tenant, before=before)
            if expired:
                self._on_expired(expired)
                _log.info("feedback_expired", tenant=tenant, rows=expired)
