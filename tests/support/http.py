"""Requests and responses of the HTTP API: the body of a problem, a raw request, rows as tensors."""

import socket
from urllib.parse import urlsplit

import httpx2


def check_problem(response: httpx2.Response, status: int, code: str, *mentions: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:superpos:problem:{code}"
    assert body["request_id"] == response.headers["X-Request-ID"]
    for mention in mentions:
        assert mention in body["detail"], body["detail"]


def http_request(body: bytes, path: str = "/classify/sentiment") -> bytes:
    """A request as its bytes."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body


def tensors(rows: list[dict[str, str]], **of_each: object) -> list[dict[str, object]]:
    """Return the rows as the tensors of an Open Inference request: one per field, with these further members each."""
    return [
        {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": [row[name] for row in rows], **of_each}
        for name in rows[0]
    ]


def exchange(url: str, sent: bytes, *, half_close: bool = True, timeout_s: float = 10) -> bytes:
    """Send bytes, close the sending side if asked to, and return everything that comes until the server closes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received
