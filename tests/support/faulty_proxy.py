"""A real HTTP proxy that goes wrong when a test says so: refusals, resets, silence, slow answers and half ones."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Literal


@dataclass(frozen=True)
class Refuses:
    """An error in place of an answer; the server does not see the request."""

    status: int
    retry_after: str | None = None
    body: bytes = b""


@dataclass(frozen=True)
class Resets:
    """A reset connection, before the server has seen the request or after it has answered."""

    when: Literal["before", "after"] = "before"


@dataclass(frozen=True)
class IsSilent:
    """Nothing for a time, then the answer."""

    seconds: float


@dataclass(frozen=True)
class Drips:
    """The answer's body, a byte at a time."""

    seconds_per_byte: float


@dataclass(frozen=True)
class BreaksOff:
    """Half of the answer's body, then the end of the connection; `unframed` hides that more was to come."""

    unframed: bool = False


Fault = Refuses | Resets | IsSilent | Drips | BreaksOff
Script = Callable[[int], Fault | None]
"""The fault of the n-th counted request, from 0; those are classifications unless a test says otherwise."""


@dataclass
class Seen:
    """A request that arrived."""

    method: str
    path: str
    body: bytes
    at: float
    fault: Fault | None


@dataclass
class FaultyProxy:
    """The proxy, its address, and what it has seen."""

    target: str
    script: Script
    counted: str
    poison: bytes | None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    most_at_once: int = 0
    """Counted requests that were in progress at the same time, at most."""

    @property
    def classifications(self) -> list[Seen]:
        """The counted requests."""
        return [each for each in self.seen if each.path.startswith(self.counted)]


@contextmanager
def faulty_proxy(
    server_url: str, script: Script = lambda _: None, *, counted: str = "/classify", poison: bytes | None = None
) -> Iterator[FaultyProxy]:
    """Run a proxy in front of a server; a counted request with `poison` in its body is answered with 500."""
    proxy = FaultyProxy(server_url.removeprefix("http://"), script, counted, poison)
    lock, at_once = threading.Lock(), [0]

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            upstream = http.client.HTTPConnection(proxy.target, timeout=30)
            try:
                while self._exchange(upstream):
                    pass
            except OSError:
                pass  # the client has gone
            finally:
                upstream.close()

        def _exchange(self, upstream: http.client.HTTPConnection) -> bool:
            line = self.rfile.readline().decode()
            if not line:
                return False
            method, path, _ = line.split(" ", 2)
            headers = http.client.parse_headers(self.rfile)
            body = self.rfile.read(int(headers.get("Content-Length", "0")))
            is_counted = path.startswith(proxy.counted)
            with lock:
                fault = proxy.script(len(proxy.classifications)) if is_counted else None
                if is_counted and proxy.poison is not None and proxy.poison in body:
                    fault = Refuses(500)
                request = Seen(method, path, body, time.monotonic(), fault)
                proxy.seen.append(request)
                at_once[0] += is_counted
                proxy.most_at_once = max(proxy.most_at_once, at_once[0])
            try:
                return self._answer(upstream, request, headers)
            finally:
                with lock:
                    at_once[0] -= is_counted

        def _answer(
            self,
            upstream: http.client.HTTPConnection,
            request: Seen,
            headers: http.client.HTTPMessage,
        ) -> bool:
            fault = request.fault
            if isinstance(fault, Refuses):
                wait = f"Retry-After: {fault.retry_after}\r\n" if fault.retry_after is not None else ""
                head = f"HTTP/1.1 {fault.status} No\r\n{wait}Content-Length: {len(fault.body)}\r\n\r\n"
                self.wfile.write(head.encode() + fault.body)
                return True
            if fault == Resets("before"):
                return self._reset()
            upstream.request(request.method, request.path, request.body, dict(headers.items()))
            response = upstream.getresponse()
            content = response.read()
            if isinstance(fault, Resets):
                return self._reset()
            if isinstance(fault, IsSilent):
                time.sleep(fault.seconds)
            fields = "".join(
                f"{name}: {value}\r\n"
                for name, value in response.getheaders()
                if name.lower() not in ("transfer-encoding", "content-length", "connection")
            )
            unframed = isinstance(fault, BreaksOff) and fault.unframed
            framing = "Connection: close" if unframed else f"Content-Length: {len(content)}"
            self.wfile.write(f"HTTP/1.1 {response.status} {response.reason}\r\n{fields}{framing}\r\n\r\n".encode())
            if isinstance(fault, BreaksOff):
                self.wfile.write(content[: len(content) // 2])
                return False
            if isinstance(fault, Drips):
                for place in range(len(content)):
                    self.wfile.write(content[place : place + 1])
                    time.sleep(fault.seconds_per_byte)
                return True
            self.wfile.write(content)
            return True

        def _reset(self) -> bool:
            # a close with a linger of zero seconds sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return False

    class Listener(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing: clients that give up are what the tests are about."""

        def shutdown_request(self, request: object) -> None:
            assert isinstance(request, socket.socket)
            request.close()  # without the orderly shutdown of the base class, which would hide a reset

    with Listener(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        proxy.url = f"http://127.0.0.1:{listener.server_address[1]}"
        yield proxy
        listener.shutdown()
        thread.join(10)
