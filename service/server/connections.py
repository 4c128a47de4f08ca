"""Limits a server's open connections: their number, and how long each may wait for its client.

uvicorn limits neither. A client that sends nothing, half a header or half a body would hold its connections for ever,
and without free file descriptors the event loop logs 2,048 errors per second.
"""

import asyncio
import math
import resource
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import Literal

from service.server.protocol import HalfCloseProtocol
from service.settings import Settings
from service.telemetry.logging import RateLimitedLog

Phase = Literal["request", "idle", "sending", "body", "answering"]
"""The event that a connection waits for: a request's header, the next request, the client's reading of the answer, the
body, or this server's answer."""
_DESCRIPTORS = 0.75
"""Share of the descriptor limit that connections may use; files, databases and uploads need the rest."""
_BURST = 2
"""Connections accepted before the event loop handles other events: their requests arrive with them."""
_CLOSED_AT_ONCE = 8
_PAUSE_S = 0.05
"""Seconds until the next attempt to accept, after a failed one."""
_SPARED_S = 0.05
"""Age below which a connection is not replaced: its first request may have arrived without having been read."""


def connection_limit(settings: Settings) -> int:
    """Return how many connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return settings.max_connections
    return max(1, min(settings.max_connections, int(soft * _DESCRIPTORS)))


def raise_descriptor_limit(settings: Settings) -> None:
    """Raise the soft limit up to the hard limit, so that `max_connections` fit; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = math.ceil(settings.max_connections / _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class Connections:
    """Accepts connections up to the limit, and closes those that wait for their client too long.

    At the limit, new connections replace those that have waited longest for their clients: first those of the tenant
    with the most connections, where all connections without a valid key count as one tenant's; of these first those
    without a request, then those that send a body or read an answer. A tenant keeps its equal share. A connection whose
    request is being answered is never closed, nor is one that was accepted a moment ago; if there are no others, new
    ones stay in the kernel's queue.
    """

    def __init__(
        self,
        settings: Settings,
        opened: Collection[asyncio.Protocol],
        connect: Callable[[], HalfCloseProtocol],
    ) -> None:
        """Accept nothing yet.

        Args:
            settings: limits and timeouts
            opened: uvicorn's set of open connections
            connect: makes a connection's protocol
        """
        self.limit = connection_limit(settings)
        self._opened, self._connect = opened, connect
        self._timeouts: dict[Phase, float] = {
            "request": settings.header_timeout_s,
            "idle": settings.idle_timeout_s,
            "sending": settings.answer_timeout_s,
        }
        self._seen: dict[HalfCloseProtocol, tuple[object, float]] = {}
        self._opening: set[asyncio.Task[object]] = set()
        self._is_stopped = False
        self._log = RateLimitedLog()

    @property
    def free(self) -> int:
        """Number of connections that can be accepted now."""
        return max(0, self.limit - len(self._opened) - len(self._opening))

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a listening socket."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())
        loop.add_reader(listener.fileno(), self._accept, listener)

    def stop(self) -> None:
        """Accept no more."""
        self._is_stopped = True

    def check(self, now: float) -> None:
        """Close the connections whose clients have exceeded a timeout; called periodically."""
        seen: dict[HalfCloseProtocol, tuple[object, float]] = {}
        for connection in self._of_clients():
            phase = phase_of(connection)
            key, since = (phase, connection.cycle), now
            if connection in self._seen and self._seen[connection][0] == key:
                since = self._seen[connection][1]
            seen[connection] = (key, since)
            if now - since > self._timeouts.get(phase, math.inf):
                _expire(connection, phase)
        self._seen = seen

    def _of_clients(self) -> list[HalfCloseProtocol]:
        return [each for each in self._opened if isinstance(each, HalfCloseProtocol)]

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            if self.free == 0:
                if not self._make_room():
                    self._pause(listener)
                return  # a closed connection frees its descriptor in the event loop's next turn
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._log.warning("accept_failed", reason=exc.strerror, connections=len(self._opened))
                self._make_room()
                self._pause(listener)
                return
            accepted.setblocking(False)
            self.open(accepted)

    def open(self, accepted: socket.socket) -> None:
        """Serve an accepted connection."""
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(self._connect, accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _make_room(self) -> bool:
        """Close the connections that have waited longest for their client; return whether there were any."""
        opened_before = asyncio.get_running_loop().time() - _SPARED_S
        of_clients = self._of_clients()
        of_tenant = Counter(each.tenant for each in of_clients)
        share = len(of_clients) / max(1, len(of_tenant))
        waiting = [
            each
            for each in of_clients
            if phase_of(each) != "answering" and each.opened_at < opened_before and of_tenant[each.tenant] >= share
        ]
        waiting.sort(
            key=lambda each: (
                -of_tenant[each.tenant],
                each.tenant or "",
                phase_of(each) in ("sending", "body"),
                self._waits_since(each),
            )
        )
        for connection in waiting[:_CLOSED_AT_ONCE]:
            connection.transport.abort()
        if waiting:
            self._log.warning(
                "connections_full", limit=self.limit, action="closed those that waited longest for their clients"
            )
        else:
            self._log.warning("connections_full", limit=self.limit, action="accepting no more for now")
        return bool(waiting)

    def _waits_since(self, connection: HalfCloseProtocol) -> float:
        return self._seen[connection][1] if connection in self._seen else connection.opened_at

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())
        loop.call_later(_PAUSE_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._is_stopped:
            self.listen(listener)


def phase_of(connection: HalfCloseProtocol) -> Phase:
    """Return what a connection waits for."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        if connection.transport.get_write_buffer_size():
            return "sending"
        return "request" if cycle is None or connection.conn.trailing_data[0] else "idle"
    if connection.flow.write_paused:
        return "sending"
    return "body" if cycle.more_body else "answering"


def _expire(connection: HalfCloseProtocol, phase: Phase) -> None:
    if phase == "sending":
        connection.transport.abort()  # `close` would wait for the client to read the rest
    elif phase == "request" and connection.conn.trailing_data[0]:
        connection.refuse(408, "The request's header did not arrive in time.")
    else:
        connection.transport.close()
