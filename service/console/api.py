"""The HTTP API, called in this process: same routes, same checks of roles and bodies, same errors.

A call carries the principal of the console's session in place of a key. Nothing is sent over a socket, and the console
can do nothing that the session's key could not do.
"""

import json as json_text
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive

from service.api.middleware.authentication import SESSION, RequestSession
from service.tenancy.principal import Principal
from service.tenancy.quotas import Quotas

Query = Mapping[str, str | int | Sequence[str] | None]


class ApiProblem(Exception):
    """The API's refusal: its problem details."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(str(body.get("detail", "")))
        self.status, self.body, self.headers = status, body, headers

    @property
    def code(self) -> str:
        """The stable code of the problem."""
        return str(self.body.get("code", "error"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Return the JSON body."""
        return json_text.loads(self.content) if self.content else None


def path(*parts: str | int) -> str:
    """Return a path of these parts, each quoted."""
    return "".join(f"/{quote(str(part), safe='@:')}" for part in parts)


def _checked(answer: Answer) -> Answer:
    """Raise the refusal that an answer is (`ApiProblem`)."""
    if answer.status >= 400:
        raise ApiProblem(answer.status, answer.json(), answer.headers)
    return answer


class Api:
    """The routes of an application, without the middleware around them."""

    def __init__(self, app: FastAPI, quotas: Quotas) -> None:
        self._quotas = quotas
        handlers = {error: handle for error, handle in app.exception_handlers.items() if error not in (500, Exception)}
        self._app = app
        self.routes: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), handlers=handlers)

    @asynccontextmanager
    async def as_principal(self, request: Request, principal: Principal) -> AsyncIterator["Caller"]:
        """Count a console request to its tenant, as a request with the key, and yield what calls the API for it.

        Raises:
            RateLimited: the tenant has reached a limit
        """
        session = RequestSession(lambda: principal, self._quotas)
        try:
            await session.open()
            yield Caller(self._app, self.routes, request, session)
        finally:
            await session.close()


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls the API for one request of the console."""

    app: FastAPI
    routes: ASGIApp
    request: Request
    session: RequestSession

    async def get(self, path: str, query: Query | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of a read (`ApiProblem`)."""
        return (await self.call("GET", path, query=query, headers=headers)).json()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the response of a route (`ApiProblem` if it refuses)."""
        body = b"" if json is None else json_text.dumps(json).encode()
        own = {**(headers or {})}
        if json is not None:
            own["Content-Type"] = "application/json"
        if body:
            own["Content-Length"] = str(len(body))
        return _checked(await self._send(method, path, query, own, self._receive_of(body)))

    async def relay(self, method: str, path: str) -> Answer:
        """Return the response of a route to the request's own body, unread (`ApiProblem` if it refuses)."""
        names = ("Content-Type", "Content-Length", "Transfer-Encoding")
        own = {name: self.request.headers[name] for name in names if name in self.request.headers}
        return _checked(await self._send(method, path, None, own, self.request.receive))

    async def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the response of a route, whatever its status.

        Args:
            method: of HTTP
            target: path with the query
            headers: of the request
            body: its content
        """
        where, _, query = target.partition("?")
        return await self._send(method, where, parse_qs(query), headers, self._receive_of(body))

    def _receive_of(self, body: bytes) -> Receive:
        is_sent = False

        async def receive() -> Message:
            nonlocal is_sent
            if is_sent:
                return await self.request.receive()  # the person may leave meanwhile
            is_sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive

    async def _send(
        self, method: str, path: str, query: Query | None, headers: Mapping[str, str], receive: Receive
    ) -> Answer:
        status, sent_headers, parts = 500, {}, list[bytes]()

        async def send(message: Message) -> None:
            nonlocal status, sent_headers
            if message["type"] == "http.response.start":
                status = message["status"]
                sent_headers = {name.decode().title(): value.decode("latin-1") for name, value in message["headers"]}
            else:
                parts.append(message.get("body", b""))

        await self.routes(self._scope(method, path, query, headers), receive, send)
        return Answer(status, sent_headers, b"".join(parts))

    def _scope(self, method: str, path: str, query: Query | None, headers: Mapping[str, str]) -> dict[str, Any]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return {
            **{name: self.request.scope.get(name) for name in ("asgi", "client", "server", "scheme", "http_version")},
            "type": "http",
            "app": self.app,
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(given, doseq=True).encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "state": {**self.request.scope["state"], SESSION: self.session},
        }
