"""The ASGI layer that knows who asks: looked up once a request, before the first byte of its body is read."""

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RateLimited, ServiceError, Unauthenticated
from service.telemetry.request_record import current_record
from service.tenancy.account_cache import AccountCache
from service.tenancy.api_keys import principal_by_key
from service.tenancy.principal import ANONYMOUS_ADMIN, Principal
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import ConcurrencySlot

SESSION = "visit"
API_KEY = "X-API-Key"
_BEARER = "bearer "


class AuthenticationMiddleware:
    """Puts a `RequestSession` into every request's state. Who reads the body, or asks who the caller is, enters it."""

    def __init__(self, app: ASGIApp, *, directory: AccountCache, quotas: Quotas, require_keys: bool) -> None:
        self._app, self._directory, self._quotas, self._require_keys = app, directory, quotas, require_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = RequestSession(lambda: self._identify(Headers(scope=scope)), self._quotas)
        scope.setdefault("state", {})[SESSION] = visit

        async def entered() -> Message:
            # an error raised here comes out where the body is read, as the body's own errors do
            await visit.enter()
            return await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and (fields := visit.fields()):
                MutableHeaders(scope=message).update(fields)
            await send(message)

        try:
            await self._app(scope, entered, answer)
        finally:
            await visit.leave()

    def _identify(self, headers: Headers) -> Principal:
        if not self._require_keys:
            return ANONYMOUS_ADMIN
        text = _shown_key(headers)
        if not text:
            raise Unauthenticated(
                f"no key: send it as 'Authorization: Bearer sp_…' or as '{API_KEY}: sp_…'", reason="missing"
            )
        return principal_by_key(text, self._directory.key, now=datetime.now(UTC))


class RequestSession:
    """One request's way in and out. Entered once, however many ask: later ones get the same answer."""

    def __init__(self, identify: Callable[[], Principal], quotas: Quotas) -> None:
        self._identify, self._quotas = identify, quotas
        self._caller: Principal | None = None
        self._lease: ConcurrencySlot | None = None
        self._refusal: ServiceError | None = None

    async def enter(self) -> Principal:
        """Who asks (`Unauthenticated`; `RateLimited` where the tenant may not ask for more now)."""
        if self._refusal is not None:
            raise self._refusal
        if self._caller is not None:
            return self._caller
        try:
            self._caller = self._identify()
            current_record().tenant = self._caller.tenant
            self._lease = await self._quotas.enter(self._caller.tenant)
        except (Unauthenticated, RateLimited) as exc:
            self._refusal = exc
            raise
        return self._caller

    def fields(self) -> dict[str, str]:
        """What the answer tells of the tenant's limits."""
        return {} if self._caller is None else self._quotas.fields(self._caller.tenant)

    async def leave(self) -> None:
        """Make room for the tenant's next request."""
        if self._caller is not None:
            await self._quotas.leave(self._caller.tenant, self._lease)


def _shown_key(headers: Headers) -> str:
    authorization = headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get(API_KEY, "")
