"""Limits the memory of all request bodies together and each tenant's share of it."""

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import QueueFull
from service.inference.admission import ALPHA
from service.telemetry.request_record import current_record


class BodyBudgetMiddleware:
    """Counts the bytes of each body until its response is sent; refuses a body beyond the budget (`QueueFull`).

    As in `Admission`, a tenant may hold `ALPHA` times the free part, so that one tenant alone gets at most two thirds.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes
        self._held: Counter[str | None] = Counter()
        self._held_by_all = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held, tenant = 0, None

        async def counted() -> Message:
            nonlocal held, tenant
            message = await receive()
            if size := len(message.get("body", b"")):
                tenant = current_record().tenant  # a body is read only after its sender is known
                self._take(tenant, size)
                held += size
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held_by_all -= held
            self._held[tenant] -= held
            if not self._held[tenant]:
                del self._held[tenant]

    def _take(self, tenant: str | None, size: int) -> None:
        own, free = self._held[tenant] + size, self._max_bytes - self._held_by_all - size
        if own > ALPHA * free:
            raise QueueFull(
                f"bodies in memory: {self._held[tenant]} bytes of this tenant, {self._held_by_all} bytes in all; "
                f"the server holds at most {self._max_bytes}, and a tenant at most {ALPHA} times the free part; retry "
                "later, or send fewer requests at a time",
                retry_after_s=1,
                reason="body_bytes",
            )
        self._held[tenant] += size
        self._held_by_all += size
