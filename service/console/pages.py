"""Pages and fragments: templates, static files under the hash of their content, and the headers that both carry."""

import asyncio
import gzip
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.console import charts

_FOLDER = Path(__file__).parent
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_PIECE_S = 0.001
"""Processor time after which rendering lets other requests run."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class StaticFiles:
    """The console's scripts and styles, read once. A path holds its content's hash, so a browser keeps it for ever."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, bytes, str]] = {}
        self._paths: dict[str, str] = {}
        for file in sorted((_FOLDER / "static").iterdir()):
            if file.suffix in _TYPES:
                content = file.read_bytes()
                path = f"{hashlib.sha256(content).hexdigest()[:12]}/{file.name}"
                self._files[path] = content, gzip.compress(content, mtime=0), _TYPES[file.suffix]
                self._paths[file.name] = f"/console/static/{path}"

    def path(self, name: str) -> str:
        """Return the path of a file by its name."""
        return self._paths[name]

    def response(self, path: str, request: Request) -> Response | None:
        """Return the file at a path, None if there is none."""
        if path not in self._files:
            return None
        plain, packed, media_type = self._files[path]
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(plain, media_type=media_type, headers=headers)


class Pages:
    """Renders templates."""

    def __init__(self) -> None:
        self.static = StaticFiles()
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"static": self.static.path, "charts": charts, "server_version": version("superpos")}
        self._templates.filters |= {"number": number, "percent": percent, "when": when, "size": size}

    async def render(
        self, template: str, values: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """Return a template as a response."""
        return HTMLResponse(await self.text(template, values), status, headers)

    async def text(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a template as text; other requests run between two pieces of a long one."""
        parts: list[str] = []
        since = time.thread_time()
        for part in self._templates.get_template(template).generate(values):
            parts.append(part)
            if time.thread_time() - since > _PIECE_S:
                await asyncio.sleep(0)
                since = time.thread_time()
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class _AnyPage:
    """Stands for all routes of the console in metrics and logs."""

    path: str = "/console"


class PageMiddleware:
    """Adds the headers that keep other sites and injected code out, and names the route for metrics and logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            scope["route"] = _AnyPage()


def number(value: float, digits: int) -> str:
    """Format a number with a fixed number of digits."""
    return f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share; 99.96 % is not shown as 100 %."""
    if value is None:
        return "–"
    shown = f"{100 * value:.1f}"
    return ("> 99.9" if shown == "100.0" and value < 1 else shown) + " %"


def when(moment: str | None) -> Markup:
    """Format a time of the API's JSON."""
    if moment is None:
        return Markup("–")
    shown = datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}">{} UTC</time>').format(moment, shown)


def size(size_bytes: int | None) -> str:
    """Format a number of bytes."""
    if size_bytes is None:
        return "–"
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.1f} {unit}"
    return f"{size_bytes} B"
