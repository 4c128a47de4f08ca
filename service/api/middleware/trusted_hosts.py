"""The ASGI layer that keeps web pages off a server without keys: foreign Host and Origin headers are refused.

A page in the browser of somebody on this machine can reach loopback: by a name of its own that it lets point at
127.0.0.1 (DNS rebinding, seen in the Host header), or by a plain form (seen in the Origin header, which only browsers
send).
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import Forbidden, Misdirected


class TrustedHostsMiddleware:
    """Answers for localhost, loopback addresses and the hosts named, at any port; others get 421 or 403."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(Request(scope), refusal)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Exception | None:
        host, origin = headers.get("Host"), headers.get("Origin")
        if host is not None and not self._is_ours(f"//{host}"):  # HTTP/1.0 may lack one; no browser speaks that
            return Misdirected(f"Host is {host!r}, this server answers for localhost; see SUPERPOS_ALLOWED_HOSTS")
        if origin is not None and not self._is_ours(origin):
            return Forbidden(f"Origin is {origin!r}: a server without keys takes no requests of foreign web pages")
        return None

    def _is_ours(self, url: str) -> bool:
        try:
            name = urlsplit(url).hostname or ""
        except ValueError:  # an IPv6 address that is none
            return False
        name = name.removesuffix(".")
        return name == "localhost" or name in self._allowed or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
