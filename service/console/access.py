"""Access to the console: sign-in with an API key, the session's cookie, and protection against foreign pages."""

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from service.console.sessions import SESSION_S, SessionStore, hash_of, new_id, session_of
from service.errors import Forbidden, Unauthenticated
from service.tenancy.account_cache import AccountCache
from service.tenancy.api_keys import ApiKey, principal_by_key
from service.tenancy.principal import ANONYMOUS_OPERATOR, Principal

COOKIE = "superpos_console"
PATH = "/console"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's person."""

    principal: Principal
    csrf_token: str
    """Derived from the session's id, so that only a page of this session knows it; empty on a server without keys."""


class Access:
    """Signs people in and out, and recognizes them by their session."""

    def __init__(self, sessions: SessionStore, accounts: AccountCache, *, require_keys: bool) -> None:
        self._sessions, self._accounts = sessions, accounts
        self.require_keys = require_keys

    async def sign_in(self, key_text: str, response: Response, *, secure: bool) -> Principal:
        """Check a key, store a session and set its cookie (`Unauthenticated`, `RegistryUnavailable`)."""
        principal = principal_by_key(key_text.strip(), self._accounts.key, now=datetime.now(UTC))
        key = ApiKey.parse(key_text.strip())
        assert key is not None
        session_id = new_id()
        await asyncio.to_thread(self._sessions.add, hash_of(session_id), session_of(key.id, key.sha256))
        response.set_cookie(
            COOKIE, session_id, max_age=int(SESSION_S), path=PATH, httponly=True, samesite="strict", secure=secure
        )
        return principal

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the request's session and remove its cookie."""
        if session_id := request.cookies.get(COOKIE):
            await asyncio.to_thread(self._sessions.remove, hash_of(session_id))
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")

    async def visit(self, request: Request) -> Visit:
        """Return the request's person.

        Raises:
            Unauthenticated: there is no session, or its key is revoked, rotated or expired
            RegistryUnavailable: the sessions cannot be read
        """
        if not self.require_keys:
            return Visit(ANONYMOUS_OPERATOR, "")
        session_id = request.cookies.get(COOKIE)
        if not session_id:
            raise Unauthenticated("no session: sign in with an API key", reason="missing")
        session = await asyncio.to_thread(self._sessions.get, hash_of(session_id))
        if session is None or session.expires_at < time.time():
            raise Unauthenticated("the session has ended: sign in again", reason="expired")
        key = self._accounts.key(session.key_id)
        if key is None or session.key_sha256 not in key.hashes(datetime.now(UTC)):
            raise Unauthenticated(
                "the session's key was revoked, rotated or has expired: sign in with a valid one",
                reason="expired",
                key_id=session.key_id,
            )
        return Visit(Principal(key.tenant, key.role, key.id, key.default_task), csrf_token(session_id))


def csrf_token(session_id: str) -> str:
    """Return the token that forms of a session's pages send."""
    return hmac.new(session_id.encode(), b"superpos console form", hashlib.sha256).hexdigest()


def check_origin(request: Request) -> None:
    """Refuse a form that another site's page sends (`Forbidden`); every browser says which page it is."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site != "same-origin":
            raise Forbidden(f"Sec-Fetch-Site is {site!r}, expected 'same-origin': open the console and try again")
        return
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if origin is None or urlsplit(origin).netloc != host:
        raise Forbidden(f"Origin is {origin!r}, expected a page of {host!r}: open the console and try again")


def check_token(given: str | None, visit: Visit) -> None:
    """Refuse a form without its session's token (`Forbidden`)."""
    if visit.csrf_token and not hmac.compare_digest((given or "").encode(), visit.csrf_token.encode()):
        raise Forbidden("the form does not belong to this session: reload the page and try again")
