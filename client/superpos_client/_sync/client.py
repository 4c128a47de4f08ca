# Written by scripts/sync_client.py from _async/client.py: change that file.
"""`Client`: a server, its connections, and everything that it can be asked."""

from collections.abc import Mapping
from datetime import date
from types import TracebackType
from typing import Self

import httpx2

from superpos_client import calls
from superpos_client._sync.accounts import Audit, Keys, Tenants
from superpos_client._sync.classifier import Classifier
from superpos_client._sync.feedback import Feedback
from superpos_client._sync.jobs import Jobs
from superpos_client._sync.tasks import Tasks
from superpos_client._sync.transport import Transport
from superpos_client.answers import Limits
from superpos_client.calls import Answer, Call
from superpos_client.local import LocalEngine
from superpos_client.resources import Readiness, Usage
from superpos_client.server import Server

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_MAX_RETRIES = 3


class Client(Classifier):
    """A server of text classifiers.

    Calls may run at the same time, and share connections. Each has one deadline over all of its tries, which the
    server gets too. 429, 502, 503, 504, refused and broken connections are retried with growing random waits, or after
    the time that the server names, while the client's retries are within a tenth of its calls.

        with Client("http://localhost:8080") as client:
            prediction = client.classify("sst2", "a gripping film")

    Attributes:
        tasks: tasks, versions, aliases and releases
        feedback: corrections of answers, and what is kept to be corrected
        jobs: training jobs
        tenants: tenants and their limits, for administrators
        keys: API keys, for administrators
        audit: the logs of accounts and tasks, for administrators
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        http_client: httpx2.Client | None = None,
    ) -> None:
        """Make a client; it connects with its first call.

        Args:
            url: the server's address; by default SUPERPOS_URL, or http://127.0.0.1:8080
            api_key: by default SUPERPOS_API_KEY, or the first line of the file that SUPERPOS_API_KEY_FILE names
            timeout: seconds for a call, all of its tries included
            max_retries: tries of a call after the first
            http_client: sends the requests, for a proxy or certificates of your own; you close it

        Raises:
            ValueError: an invalid address, key or number
        """
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}, expected a number of seconds above 0")
        if max_retries < 0:
            raise ValueError(f"max_retries is {max_retries!r}, expected 0 or more")
        server = Server.of(url, api_key)
        self._use(Transport.of(server, timeout_s=timeout, max_retries=max_retries, http_client=http_client))

    @classmethod
    def local(
        cls,
        registry: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        **settings: object,
    ) -> Self:
        """Run the engine in this process, without a server; it needs the package `superpos`.

        The same routes, limits and errors apply as over HTTP. `close` stops the engine.

        Args:
            registry: a SQLite file or a Redis URL; by default the one that `superpos serve` uses
            timeout: seconds for a call
            max_retries: tries of a call after the first
            settings: the server's settings, such as `backbone` or `threads` (docs/operations.md)

        Raises:
            ModuleNotFoundError: the package `superpos` is not installed
        """
        engine = LocalEngine.start(registry, settings)
        client = cls(engine.url, timeout=timeout, max_retries=max_retries)
        client._transport.shared.run_locally(engine)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; stop the engine of a local client."""
        self._transport.shared.close()

    def with_options(self, *, timeout: float | None = None, max_retries: int | None = None) -> Self:
        """Return a client with other settings, which shares connections and retry budget with this one."""
        made = object.__new__(type(self))
        made._use(self._transport.changed(timeout_s=timeout, max_retries=max_retries))
        return made

    def limits(self) -> Limits:
        """Return what one request may hold."""
        return self._transport.limits()

    def readiness(self) -> Readiness:
        """Return whether the server can answer, and what it runs."""
        return self._transport.send(calls.readiness())

    def usage(
        self,
        *,
        task: str | None = None,
        since: date | None = None,
        until: date | None = None,
        tenant: str | None = None,
    ) -> Usage:
        """Return requests, rows, tokens and errors by task and day.

        Args:
            task: only this task
            since: first day, UTC; by default 30 days ago
            until: last day, UTC, inclusive; by default today
            tenant: another tenant, for operators
        """
        call = calls.usage(task_name=task, since=since, until=until, tenant=tenant)
        return self._transport.send(call)

    def usage_csv(
        self,
        *,
        task: str | None = None,
        since: date | None = None,
        until: date | None = None,
        tenant: str | None = None,
    ) -> str:
        """Return the usage as CSV (RFC 4180) with a header; the arguments are those of `usage`."""
        call = calls.usage_csv(task_name=task, since=since, until=until, tenant=tenant)
        return self._transport.send(call)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send any request, with the client's key, deadline, retries and errors.

        Args:
            method: GET and HEAD are retried as often as classifications, others only if the server did not begin them
            path: below the server's address, quoted
            params: query parameters
            headers: in addition to the client's
            content: the body
            timeout: seconds; by default the client's

        Raises:
            SuperposError: as every call
        """
        call = Call(
            method=method,
            path=path,
            read=lambda answer: answer,
            repeat="always" if method in ("GET", "HEAD") else "unsent",
            params=params or {},
            headers=headers or {},
            content=None if content is None else lambda _: content,
        )
        return self._transport.send(call, timeout)

    def _use(self, transport: Transport) -> None:
        self._transport = transport
        self.tasks = Tasks(transport)
        self.feedback = Feedback(transport)
        self.jobs = Jobs(transport)
        self.tenants = Tenants(transport)
        self.keys = Keys(transport)
        self.audit = Audit(transport)
