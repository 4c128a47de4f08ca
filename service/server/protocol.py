"""The HTTP/1.1 protocol of a connection: uvicorn's, which also answers clients that have closed their sending side.

Unlike uvicorn's, it does not read the rest of a body after the response, and it upgrades no connection.

A client may send its request, close that half of the connection and wait for the response (RFC 9112, section 9.6;
`nc -N` and some proxies do). A client that is gone looks the same until something is sent to it. So the server sends
100 (Continue), which every client has to skip: a client that is gone answers with a reset.
"""

import asyncio
import select
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.request_state import TENANT
from service.server.event_loop import ServerLoop

_TICK_S = 0.02
_INCOMPLETE = "The request is incomplete: the connection was closed before its end."


class HalfCloseProtocol(H11Protocol):
    """Responds to complete requests after the client's end of data, and to incomplete ones with 400."""

    _is_half_closed = False
    opened_at = 0.0
    """When the connection was opened, by the event loop's clock."""

    @property
    def tenant(self) -> str | None:
        """The tenant of the last request that was answered; None without a valid key."""
        return self._tenants.get(self._fileno)

    @property
    def _tenants(self) -> dict[int, str | None]:
        assert isinstance(self.loop, ServerLoop)
        return self.loop.tenants

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a connection."""
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        self._fileno = transport.get_extra_info("socket").fileno()
        self._tenants[self._fileno] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._tenants.pop(self._fileno, None)
        self._unset_keepalive_if_required()  # uvicorn's timer would keep the connection in memory until it ends
        super().connection_lost(exc)

    def refuse(self, status: int, detail: str) -> None:
        """Send a response that does not come from the application, unless one has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [
                *self.server_state.default_headers,
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"connection", b"close"),
            ]
            phrase = HTTPStatus(status).phrase.encode()
            for event in (
                h11.Response(status_code=status, headers=headers, reason=phrase),
                h11.Data(data=detail.encode("ascii")),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # so that the application's response does not follow this one
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self.refuse(400, msg)

    def _should_upgrade(self) -> bool:
        return False

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether the connection stays open for a response."""
        if self._is_half_closed:  # read again after a pause
            return True
        self._is_half_closed = True
        has_request = self.cycle is not None and not self.cycle.response_complete
        received, _ = self.conn.trailing_data
        if self.conn.their_state is h11.SEND_BODY or (self.conn.their_state is h11.IDLE and received):
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self.logger.warning(_INCOMPLETE)
                self.send_400_response(_INCOMPLETE)
                return True
            return False
        if has_request:
            self._probe()
        return has_request

    def on_response_complete(self) -> None:
        """Continue with the next request; close the connection if the client can send no other."""
        self._tenants[self._fileno] = self.scope["state"].get(TENANT)
        if self.conn.their_state is h11.SEND_BODY:  # uvicorn would read and discard the rest, however long it is
            self.transport.close()
        super().on_response_complete()
        if self._is_half_closed and self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.transport.close()

    def _probe(self) -> None:
        """Find out whether the client is still there, unless the response has begun or the client speaks HTTP/1.0."""
        if self.conn.our_state is h11.SEND_RESPONSE and self.scope["http_version"] == "1.1":
            self.transport.write(self.conn.send(h11.InformationalResponse(status_code=100, headers=[])))
            self._watch(asyncio.get_running_loop())

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Abort the connection once it is reset: the event loop itself reads no more from it."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), 0)
        if poll.poll(0):
            self.transport.abort()
        else:
            loop.call_later(_TICK_S, self._watch, loop)
