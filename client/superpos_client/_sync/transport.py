# Written by scripts/sync_client.py from _async/transport.py: change that file.
"""Sends calls: one deadline over all tries, and retries within the budget."""

from dataclasses import dataclass, field, replace

import httpx2

from superpos_client import calls
from superpos_client._sync.io import Pool, exchange, sleep
from superpos_client.answers import Limits
from superpos_client.calls import Call, T
from superpos_client.errors import SuperposError
from superpos_client.local import LocalEngine
from superpos_client.retries import Deadline, RetryBudget, Tries
from superpos_client.server import KEEPALIVE_S, MAX_CONNECTIONS, Server, timeouts


@dataclass(slots=True)
class Shared:
    """State that a client shares with those that `with_options` makes of it."""

    pool: Pool
    budget: RetryBudget = field(default_factory=RetryBudget)
    limits: Limits | None = None
    engine: LocalEngine | None = None

    def run_locally(self, engine: LocalEngine) -> None:
        """Send requests to an engine of this process; it stops with the client."""
        self.engine = engine
        self.pool = Pool(lambda: httpx2.Client(transport=engine.transport()), None)

    def close(self) -> None:
        """Close the connections; stop a local engine."""
        self.pool.close()
        if self.engine is not None:
            self.engine.stop()


@dataclass(frozen=True, slots=True)
class Transport:
    """Sends calls to one server."""

    server: Server
    shared: Shared
    timeout_s: float
    max_retries: int

    @classmethod
    def of(
        cls, server: Server, *, timeout_s: float, max_retries: int, http_client: httpx2.Client | None
    ) -> "Transport":
        """Make the transport of a client; it connects with the first call."""

        def connect() -> httpx2.Client:
            connections = httpx2.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
            )
            return httpx2.Client(verify=server.verify, limits=connections)

        return cls(server, Shared(Pool(connect, http_client)), timeout_s, max_retries)

    def changed(self, *, timeout_s: float | None, max_retries: int | None) -> "Transport":
        """Return a transport with other settings and the same connections and budget."""
        return replace(
            self,
            timeout_s=self.timeout_s if timeout_s is None else timeout_s,
            max_retries=self.max_retries if max_retries is None else max_retries,
        )

    def send(self, call: Call[T], timeout_s: float | None = None, *, waits_when_busy: bool = True) -> T:
        """Send a call, again if that may help, and return what its answer holds.

        Args:
            call: what to send
            timeout_s: seconds for all tries; by default the client's
            waits_when_busy: whether 429 is retried

        Raises:
            SuperposError: the last error
        """
        deadline = Deadline.after(self.timeout_s if timeout_s is None else timeout_s)
        tries = Tries(
            call.repeat,
            max_retries=self.max_retries,
            budget=self.shared.budget,
            deadline=deadline,
            waits_when_busy=waits_when_busy,
        )
        while True:
            try:
                return self._try(call, deadline)
            except SuperposError as error:
                delay_s = tries.delay_s(error)
                if delay_s is None:
                    raise
            sleep(delay_s)

    def limits(self) -> Limits:
        """Return the server's limits, which are asked for once."""
        if self.shared.limits is None:
            self.shared.limits = self.send(calls.limits())
        return self.shared.limits

    def _try(self, call: Call[T], deadline: Deadline) -> T:
        if deadline.remaining_s <= 0:
            raise deadline.exceeded(self.server.name)
        most_ms = 1 if self.shared.limits is None else self.shared.limits.max_timeout_ms
        with self.shared.pool.lease() as client:
            request = client.build_request(
                call.method,
                self.server.url + call.path,
                params=call.params or None,
                headers={**self.server.headers, **call.headers},
                content=None if call.content is None else call.content(deadline.remaining_ms(most_ms)),
                data=call.form,
                files=call.files,
                timeout=timeouts(deadline),
            )
            try:
                answer = exchange(client, request, deadline)
            except (httpx2.HTTPError, TimeoutError) as exc:
                raise self.server.error(exc, deadline) from exc
        return self.server.read(call, answer)
