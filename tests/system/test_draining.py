"""Draining: from the signal on nothing that the server was sent is lost, and callers are told to go elsewhere."""

import itertools
import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.adapters import make_adapter
from support.http import http_request
from support.server import RunningServer, sample
from support.server_process import server_process
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone

BODY = json.dumps({"inputs": ["a gripping film", "flat and overlong"]}).encode()
REQUEST = http_request(BODY)


class Connection:
    """A keep-alive connection, watched to the byte."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._file = self.socket.makefile("rb")

    def read_answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer; `EOFError` where the connection ends without a byte of one."""
        line = self._file.readline()
        if not line:
            raise EOFError
        headers: dict[str, str] = {}
        while (header := self._file.readline().decode().strip()) != "":
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        length = int(headers.get("content-length", "0"))
        assert len(self._file.read(length)) == length
        return int(line.split()[1]), headers

    def ask(self, request: bytes = REQUEST) -> tuple[int, dict[str, str]]:
        self.socket.sendall(request)
        return self.read_answer()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    connection = Connection(url)
    try:
        yield connection
    finally:
        connection.close()


def keep_asking(url: str, request: bytes, answered: Callable[[], None]) -> Counter[str]:
    """A client that keeps its connection until it is told to close it, then makes another, until none can be made."""
    seen: Counter[str] = Counter()
    while True:
        try:
            connection = Connection(url)
        except ConnectionError:  # before anything was sent
            seen["refused"] += 1
            return seen
        try:
            closing = False
            while not closing:
                status, headers = connection.ask(request)
                seen[str(status)] += 1
                answered()
                closing = headers.get("connection") == "close"
            seen["told to close"] += 1
        except (EOFError, ConnectionError, TimeoutError) as exc:
            seen[f"lost: {type(exc).__name__}"] += 1
        finally:
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_under_load_loses_nothing_that_was_sent(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, workers: int
) -> None:
    registry = tmp_path / "registry.sqlite"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    once = REQUEST.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close")
    answers = itertools.count()
    warm = threading.Event()

    def answered() -> None:
        if next(answers) >= 200:
            warm.set()

    with server_process(tiny_t5, registry, "--workers", str(workers)) as server, ThreadPoolExecutor(8) as pool:
        # four that keep their connections, four that make one for each request
        clients = [pool.submit(keep_asking, server.url, each, answered) for each in [REQUEST, once] * 4]
        assert warm.wait(60)
        server.process.send_signal(signal.SIGTERM)
        seen = [client.result(60) for client in clients]
        assert server.process.wait(30) == 0
    assert all(set(each) == {"200", "told to close", "refused"} for each in seen), list(map(dict, seen))
    assert not any("Traceback" in line for line in server.lines)


@pytest.fixture
def draining(serve: Callable[..., RunningServer], tiny: Backbone) -> Callable[..., RunningServer]:
    """A server of this process, to be stopped by `should_exit`, as a signal does."""

    def start(**settings: object) -> RunningServer:
        server = serve(**settings)
        server.upload("sentiment", make_adapter(tiny))
        return server

    return start


def in_flight(server: RunningServer) -> float:
    """Requests that the server works on, the scrape among them."""
    return sample(server, "superpos_requests_in_flight")


def takes_connections(server: RunningServer) -> bool:
    try:
        with connected(server.url):
            return True
    except ConnectionError:
        return False


def test_requests_half_sent_at_the_signal_are_answered_and_silent_connections_are_closed(
    draining: Callable[..., RunningServer],
) -> None:
    server = draining()
    url = server.url
    with connected(url) as head, connected(url) as body, connected(url) as silent, connected(url) as new:
        assert silent.ask()[0] == head.ask()[0] == 200
        head.socket.sendall(REQUEST[:20])
        body.socket.sendall(REQUEST[:-5])
        eventually(lambda: in_flight(server) == 2)
        server.server.should_exit = True
        eventually(lambda: not takes_connections(server))
        new.socket.sendall(REQUEST)  # connected before, its first bytes only now
        assert new.read_answer()[0] == 200
        with pytest.raises(EOFError):
            silent.read_answer()
        head.socket.sendall(REQUEST[20:])
        body.socket.sendall(REQUEST[-5:])
        for connection in (head, body):
            status, headers = connection.read_answer()
            assert (status, headers["connection"]) == (200, "close")


def test_readiness_is_off_during_the_delay_and_requests_are_still_taken(
    draining: Callable[..., RunningServer],
) -> None:
    server = draining(drain_delay_s=60.0)
    assert server.client.get("/healthz/ready").status_code == 200
    server.server.should_exit = True
    eventually(lambda: server.client.get("/healthz/ready").status_code == 503)
    assert server.client.get("/healthz/ready").json()["reason"] == "draining"
    assert server.client.get("/healthz/live").status_code == server.client.get("/healthz/startup").status_code == 200
    answer = server.classify("sentiment", "a film")
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
    server.server.force_exit = True  # what a second signal does: it ends the delay


def test_what_is_not_whole_within_the_grace_time_is_given_up(draining: Callable[..., RunningServer]) -> None:
    server = draining(drain_timeout_s=1)
    with connected(server.url) as never:
        never.socket.sendall(REQUEST[:-5])
        eventually(lambda: in_flight(server) == 2)
        server.server.should_exit = True
        assert never.read_answer()[0] == 500
