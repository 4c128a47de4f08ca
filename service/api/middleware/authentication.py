"""Authenticates each request once, when its route requires it, before the first byte of the body is read."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.request_state import TENANT
from service.errors import AccountsOutdated, RateLimited, ServiceError, Unauthenticated
from service.telemetry.request_record import current_record
from service.tenancy.account_cache import AccountCache
from service.tenancy.api_keys import principal_by_key
from service.tenancy.principal import ANONYMOUS_OPERATOR, Principal
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import ConcurrencySlot

SESSION = "session"
API_KEY = "X-API-Key"
_BEARER = "bearer "


class AuthenticationMiddleware:
    """Puts a `RequestSession` into every request's state; a route that needs a key opens it."""

    def __init__(self, app: ASGIApp, *, account_cache: AccountCache, quotas: Quotas, require_keys: bool) -> None:
        self._app, self._account_cache = app, account_cache
        self._quotas, self._require_keys = quotas, require_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # without the scope, which has the session: a cycle would leave each request to the garbage collector
        headers = Headers(raw=scope["headers"])
        session = RequestSession(partial(self._identify, headers), self._quotas)
        scope.setdefault("state", {})[SESSION] = session

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["state"][TENANT] = session.tenant
                if limits := session.rate_limit_headers():
                    MutableHeaders(scope=message).update(limits)
            await send(message)

        try:
            await self._app(scope, receive, send_with_limits)
        finally:
            await session.close()

    def _identify(self, headers: Headers) -> Principal:
        if not self._require_keys:
            return ANONYMOUS_OPERATOR
        text = _key_of(headers)
        if not text:
            raise Unauthenticated(
                f"no key: send it as 'Authorization: Bearer sp_…' or as '{API_KEY}: sp_…'", reason="missing"
            )
        return principal_by_key(text, self._account_cache.key, now=datetime.now(UTC))


class RequestSession:
    """One request's principal and its place among the tenant's concurrent requests.

    The first `open` authenticates and counts the request; later calls return the same principal or error.
    """

    def __init__(self, identify: Callable[[], Principal], quotas: Quotas) -> None:
        self._identify, self._quotas = identify, quotas
        self._principal: Principal | None = None
        self._slot: ConcurrencySlot | None = None
        self._refusal: ServiceError | None = None

    @property
    def tenant(self) -> str | None:
        """The principal's tenant; None until the session is open."""
        return None if self._principal is None else self._principal.tenant

    async def open(self) -> Principal:
        """Return the principal.

        Raises:
            Unauthenticated: the key is missing or invalid
            AccountsOutdated: keys cannot be verified at present
            RateLimited: the tenant has reached a limit
        """
        if self._refusal is not None:
            raise self._refusal
        if self._principal is not None:
            return self._principal
        try:
            self._principal = self._identify()
            record = current_record()
            record.tenant, record.key = self._principal.tenant, self._principal.key_id
            self._slot = await self._quotas.enter(self._principal.tenant)
        except (Unauthenticated, AccountsOutdated, RateLimited) as exc:
            if isinstance(exc, Unauthenticated):
                current_record().key = exc.key_id
            self._refusal = exc
            raise
        return self._principal

    def rate_limit_headers(self) -> dict[str, str]:
        """Return the response headers about the tenant's limits; none before the session is open."""
        return {} if self._principal is None else self._quotas.fields(self._principal.tenant)

    async def close(self) -> None:
        """Release the request's place."""
        if self._principal is not None:
            await self._quotas.leave(self._principal.tenant, self._slot)


def _key_of(headers: Headers) -> str:
    authorization = headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get(API_KEY, "")
