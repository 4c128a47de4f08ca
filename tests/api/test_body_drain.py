"""Refusals that come before a body was read reach whoever sends on, also where the server closes the connection."""

import json
import socket

import pytest
from support.server import RunningServer

from service.api.middleware import body_drain

TRIES = 10
"""Without the layer a reset overtakes the answer, or the sending, in nearly every one."""


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One for the module: no test here changes it."""
    return shared_server


def connected(server: RunningServer) -> socket.socket:
    url = server.client.base_url
    return socket.create_connection((url.host, url.port or 80), timeout=30)


def head(path: str, length: int, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def status_and_code(answer: bytes) -> tuple[bytes, str]:
    top, _, body = answer.partition(b"\r\n\r\n")
    return top.split()[1], json.loads(body)["code"]


PART = b'--b\r\nContent-Disposition: form-data; name="alias"\r\n\r\n' + b"x" * 6_000_000 + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("path", "kind", "body", "refusal"),
    [
        ("/tasks/t/versions", "multipart/form-data; boundary=b", PART, (b"400", "malformed")),
        ("/classify/sentiment", "application/json", b" " * 6_000_000, (b"413", "body_too_large")),
    ],
)
def test_an_early_refusal_reaches_who_sends_its_whole_body_first(
    server: RunningServer, path: str, kind: str, body: bytes, refusal: tuple[bytes, str]
) -> None:
    for _ in range(TRIES):
        with connected(server) as connection:
            connection.sendall(head(path, len(body), Connection="close", Content_Type=kind) + body)
            assert status_and_code(read_all(connection)) == refusal


def test_who_stops_sending_has_the_refusal_at_once_and_is_not_waited_for_long(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_drain, "IDLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(body_drain, "DRAIN_TIMEOUT_S", 1_000)
    with connected(server) as connection:
        connection.sendall(head("/classify/sentiment", 6_000_000, Connection="close", Content_Type="application/json"))
        assert status_and_code(read_all(connection)) == (b"413", "body_too_large")


def test_who_never_stops_sending_is_not_read_for_ever(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_drain, "DRAIN_TIMEOUT_S", 0.2)
    with connected(server) as connection:
        connection.sendall(head("/classify/sentiment", 10**15, Connection="close", Content_Type="application/json"))

        def send_on() -> None:
            while True:
                connection.sendall(b" " * 65_536)

        with pytest.raises(ConnectionError):
            send_on()


def test_who_asks_before_sending_is_answered_without_a_100(server: RunningServer) -> None:
    with connected(server) as connection:
        asked = {"Connection": "close", "Content_Type": "application/json", "Expect": "100-continue"}
        connection.sendall(head("/classify/sentiment", 6_000_000, **asked))
        assert status_and_code(read_all(connection)) == (b"413", "body_too_large")
