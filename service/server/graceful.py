"""Uvicorn's server, stopped without losing a request.

Uvicorn closes idle connections at the signal: one whose request is on its way, or half read, is cut off, and so is one
that was accepted a moment before. Answers in flight do not tell their caller that the connection ends either, who sends
the next request into it. Here every answer says `Connection: close` from the signal on, connections that are made
already are taken and answered, and one is closed only after it has been silent for a while.
"""

import asyncio
import select
import socket
import time

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.draining import Drain

DRAIN = "drain"
"""The application's `Drain` in the state of its lifespan."""
_SILENT_S = 0.5
"""How long a connection without a request is kept: longer than a request is on its way."""
_TICK_S = 0.02


class DrainingServer(uvicorn.Server):
    """One process's server. Drains in the order: readiness off, `drain_delay_s`, listening off, answers, end."""

    def __init__(self, config: uvicorn.Config, *, drain_delay_s: float, drain_timeout_s: float) -> None:
        super().__init__(config)
        self._drain_delay_s, self._drain_timeout_s = drain_delay_s, drain_timeout_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everything that callers have sent, within the time there is; then uvicorn's own."""
        drain = self.lifespan.state[DRAIN]
        assert isinstance(drain, Drain)
        drain.begin()
        await self._pass_time(self._drain_delay_s)
        deadline = time.monotonic() + self._drain_timeout_s
        await self._stop_listening(sockets or [])
        await self._finish_connections(deadline)
        self.config.timeout_graceful_shutdown = max(0, round(deadline - time.monotonic()))
        await super().shutdown(sockets)

    async def _pass_time(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(_TICK_S)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the listening sockets; who has connected to one is taken, for the kernel would reset them."""
        loop = asyncio.get_running_loop()
        accepted: list[socket.socket] = []
        for listener in sockets:
            loop.remove_reader(listener.fileno())
            accepted += _accept_all(listener)
        for server in self.servers:
            server.close()
        for connection in accepted:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> H11Protocol:
        return H11Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _finish_connections(self, deadline: float) -> None:
        """Wait for what was asked; close each connection that nothing comes from."""
        silent_since: dict[H11Protocol, float] = {}
        await asyncio.sleep(_TICK_S)  # who was accepted last has a connection by then
        while self.server_state.connections and time.monotonic() < deadline and not self.force_exit:
            now = time.monotonic()
            connections = {each for each in self.server_state.connections if isinstance(each, H11Protocol)}
            silent_since = {each: silent_since.get(each, now) for each in connections if _is_silent(each)}
            for connection, since in silent_since.items():
                if now >= since + _SILENT_S:
                    connection.shutdown()
            await asyncio.sleep(_TICK_S)


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody waits any more, or that one has left
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


def _is_silent(connection: H11Protocol) -> bool:
    """No request is being answered, half read, or waits in the kernel to be read."""
    answering = connection.cycle is not None and not connection.cycle.response_complete
    half_read, _ = connection.conn.trailing_data
    if answering or half_read or connection.transport.is_closing():
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)
