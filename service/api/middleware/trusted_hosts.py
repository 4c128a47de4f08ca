"""Protects a server without keys from web pages: rejects foreign `Host` and `Origin` headers.

A page in a browser on this machine can reach a loopback address: through its own domain, resolved to 127.0.0.1 (DNS
rebinding, visible in `Host`), or with a plain form (visible in `Origin`, which only browsers send). Pages of other
programs on this machine differ in their port.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import Forbidden, Misdirected

_DEFAULT_PORTS = {"http": 80, "https": 443}


class TrustedHostsMiddleware:
    """Accepts localhost, loopback addresses and `allowed_hosts`; others get 421 (Host) or 403 (Origin).

    A request may arrive at any port, for example through a tunnel; the page that sends it must have the same port.
    """

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
        if host is not None and not self._is_allowed(f"//{host}"):  # may be missing in HTTP/1.0, which no browser uses
            return Misdirected(f"Host is {host!r}, expected localhost; allow other names with SUPERPOS_ALLOWED_HOSTS")
        if origin is not None and not (self._is_allowed(origin) and _has_same_port(origin, f"//{host}")):
            return Forbidden(f"Origin is {origin!r}: a server without keys rejects requests from foreign web pages")
        return None

    def _is_allowed(self, url: str) -> bool:
        try:
            name = urlsplit(url).hostname or ""
        except ValueError:  # an invalid IPv6 address
            return False
        name = name.removesuffix(".")
        return name == "localhost" or name in self._allowed or _is_loopback(name)


def _has_same_port(origin: str, host: str) -> bool:
    """Return whether a page's origin and the requested host have the same port; the default is the scheme's."""
    try:
        page, requested = urlsplit(origin), urlsplit(host)
        default = _DEFAULT_PORTS.get(page.scheme)
        return default is not None and (page.port or default) == (requested.port or default)
    except ValueError:  # a port that is not a number
        return False


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
