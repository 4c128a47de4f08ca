"""A uvicorn server that stops without losing a request.

At the stop signal uvicorn closes every idle connection. That cuts off requests on their way or half read, and
connections that were accepted a moment before. Responses in flight do not announce the end either, so clients send
their next request into a closing connection. This server adds `Connection: close` to every response after the signal,
accepts and serves the connections that are already established, and closes one only after a period of silence.
"""

import asyncio
import select
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.draining import Drain
from service.engine.activity import ModelActivity
from service.memory import without_collections
from service.server.connections import Connections
from service.server.event_loop import ServerLoop
from service.server.protocol import HalfCloseProtocol
from service.server.sockets import ignore_new_connections, listen
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

DRAIN = "drain"
"""Key of the application's `Drain` in its lifespan state."""
ACTIVITY = "activity"
"""Key of the engine's `ModelActivity` in its lifespan state."""
_SILENT_S = 1.0
"""How long a connection without a request is kept open: longer than a request takes to arrive."""
_TICK_S = 0.02
_CHECK_TICKS = 5
"""uvicorn's ticks, of 0.1 s, between two checks of the open connections."""


class DrainingServer(uvicorn.Server):
    """Shutdown in order: report not ready, wait `drain_delay_s`, stop listening, finish requests, stop."""

    def __init__(self, build: "Callable[[], FastAPI]", settings: Settings) -> None:
        """Take the function that builds the application; it is called when the server runs."""
        config = uvicorn.Config(
            build,
            factory=True,
            port=settings.port,
            http=HalfCloseProtocol,
            loop=f"{ServerLoop.__module__}:{ServerLoop.__name__}",
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            headers=[("X-Content-Type-Options", "nosniff")],
            timeout_keep_alive=settings.idle_timeout_s,  # type: ignore[arg-type]
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=trusted_hosts(settings.trusted_proxies),
        )
        super().__init__(config)
        self._connections = Connections(settings, self.server_state.connections, self._protocol)
        self._listeners: list[socket.socket] = []
        self._drain_delay_s, self._drain_timeout_s = settings.drain_delay_s, settings.drain_timeout_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections within their limit."""
        self._listeners = sockets or [listen(self.config.host, self.config.port)]
        with without_collections():
            await super().startup(self._listeners)
        loop, activity = asyncio.get_running_loop(), self.lifespan.state.get(ACTIVITY)
        assert isinstance(loop, ServerLoop)
        if isinstance(activity, ModelActivity):  # absent if the application did not start
            loop.yield_to(activity)
        for listener in self._listeners:
            self._connections.listen(listener)

    async def on_tick(self, counter: int) -> bool:
        """Check the connections' timeouts periodically; return whether to stop."""
        if counter % _CHECK_TICKS == 0:
            self._connections.check(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - `startup` has them
        """Serve everything that clients have sent, within `drain_timeout_s`; then shut down as uvicorn does."""
        drain = self.lifespan.state[DRAIN]
        assert isinstance(drain, Drain)
        drain.begin()
        await self._pass_time(self._drain_delay_s)
        deadline = time.monotonic() + self._drain_timeout_s
        await self._stop_listening()
        await self._finish_connections(deadline)
        self.config.timeout_graceful_shutdown = max(0, round(deadline - time.monotonic()))
        await super().shutdown(self._listeners)

    async def _pass_time(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(_TICK_S)

    async def _stop_listening(self) -> None:
        """Close the listening sockets, but accept their pending connections, which the kernel would reset."""
        loop = asyncio.get_running_loop()
        accepted: list[socket.socket] = []
        self._connections.stop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
            ignore_new_connections(listener)
            accepted += _accept_all(listener, self._connections.free - len(accepted))
        for server in self.servers:
            server.close()
        for connection in accepted:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> HalfCloseProtocol:
        return HalfCloseProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _finish_connections(self, deadline: float) -> None:
        """Wait for open requests; close each connection that stays silent."""
        silent_since: dict[H11Protocol, float] = {}
        await asyncio.sleep(_TICK_S)  # by then the connections accepted last are registered
        while self.server_state.connections and time.monotonic() < deadline and not self.force_exit:
            now = time.monotonic()
            connections = {each for each in self.server_state.connections if isinstance(each, H11Protocol)}
            silent_since = {each: silent_since.get(each, now) for each in connections if _is_silent(each)}
            for connection, since in silent_since.items():
                if now >= since + _SILENT_S:
                    connection.shutdown()
            await asyncio.sleep(_TICK_S)


def trusted_hosts(proxies: Sequence[str]) -> list[str]:
    """Add IPv4 networks in the form that a dual-stack socket reports: `::ffff:10.0.0.0/104`."""
    networks = [ip_network(proxy) for proxy in proxies]
    mapped = [
        f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in networks if isinstance(each, IPv4Network)
    ]
    return [*map(str, networks), *mapped]


def _accept_all(listener: socket.socket, at_most: int) -> list[socket.socket]:
    """Accept the pending connections, up to a number."""
    accepted: list[socket.socket] = []
    while len(accepted) < at_most:
        try:
            connection, _ = listener.accept()
        except OSError:  # none is pending, or the client has disconnected
            return accepted
        connection.setblocking(False)
        accepted.append(connection)
    return accepted


def _is_silent(connection: H11Protocol) -> bool:
    """Whether no request is being served, half read, or waiting in the kernel's buffer."""
    answering = connection.cycle is not None and not connection.cycle.response_complete
    half_read, _ = connection.conn.trailing_data
    if answering or half_read or connection.transport.is_closing():
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)
