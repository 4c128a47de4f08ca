"""Requests and connections that end leave no cycle of references to the garbage collector, which stops the server."""

import gc
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from support.server import RunningServer
from support.waiting import eventually

Serve = Callable[..., RunningServer]
_OURS = ("HalfCloseProtocol", "RequestResponseCycle", "RequestRecord", "RequestSession", "StrictRequest")
_LIVE = b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_POST = b"POST /classify/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_WHOLE = _POST + b'Content-Length: 15\r\n\r\n{"inputs": "a"}'
_HALF = _POST + b"Content-Length: 1000\r\n\r\n{"
_RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def collected() -> Iterator[Callable[[], Counter[str]]]:
    """Collect garbage, and count what was only reachable from cycles by type."""

    def count() -> Counter[str]:
        gc.collect()
        found = Counter(type(each).__name__ for each in gc.garbage)
        gc.garbage.clear()
        return found

    yield count
    gc.set_debug(0)
    gc.garbage.clear()


def _connections(server: RunningServer, opening: bytes, *, reset: bool) -> None:
    address = urlsplit(server.url)
    opened = [socket.create_connection((address.hostname, address.port)) for _ in range(10)]
    for connection in opened:
        connection.sendall(opening)
    if opening is not _HALF:
        for connection in opened:
            assert connection.recv(4_096).startswith(b"HTTP/1.1 ")
    for connection in opened:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()
    eventually(lambda: not server.server.server_state.connections, within_s=10)
    time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("opening", [_LIVE, _WHOLE, _HALF], ids=["answered", "refused", "half a body"])
def test_an_ended_connection_leaves_no_cycle(
    serve: Serve, collected: Callable[[], Counter[str]], opening: bytes, reset: bool
) -> None:
    server = serve(bundled=False)
    _connections(server, opening, reset=reset)  # what is made once
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        _connections(server, opening, reset=reset)
        found = collected()
    finally:
        gc.set_debug(0)
    assert not {name: found[name] for name in _OURS if found[name]}
