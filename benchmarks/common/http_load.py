"""Cheap load generator: encoded requests, one HTTP/1.1 connection per client, no HTTP library.

Its processor time is lost to the server on the same machine.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common import load
from benchmarks.common.load import Load


@dataclass(frozen=True, slots=True)
class Call:
    """One request as bytes, with its number of rows."""

    data: bytes
    rows: int


def call(url: str, path: str, body: bytes, *, rows: int, headers: str = "") -> Call:
    """Encode a POST of JSON to `path` on the server at `url`; `headers` are complete lines with CRLF."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n{headers}"
    return Call(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, rows)


@dataclass(frozen=True, slots=True)
class Reply:
    """One response."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(_joined(self.body) if b"chunked" in self.head.lower() else self.body)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end = -1  # end of the reply in the buffer, once its head has arrived
        self._head_end = -1
        self._reply: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self.lost = False

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connect to the server at `url`."""
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address.hostname, address.port)
        return connection

    async def ask(self, request: Call) -> Reply:
        """Send one request and wait for its complete response."""
        assert self._transport is not None
        assert self._reply is None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request.data)
        return await self._reply

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError(f"the server hung up: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head_end < 0:
            self._head_end = self._buffer.find(b"\r\n\r\n")
            if self._head_end < 0:
                return
            length = _content_length(bytes(self._buffer[: self._head_end]))
            self._end = -1 if length is None else self._head_end + 4 + length
        chunked_end = self._end < 0 and self._buffer.endswith(b"0\r\n\r\n")
        if chunked_end or 0 <= self._end <= len(self._buffer):
            self._finish()

    def _finish(self) -> None:
        head, body = bytes(self._buffer[: self._head_end]), bytes(self._buffer[self._head_end + 4 :])
        reply, self._reply = self._reply, None
        self._buffer.clear()
        self._head_end = self._end = -1
        if reply is not None and not reply.done():
            reply.set_result(Reply(int(head[9:12]), head, body))


def _content_length(head: bytes) -> int | None:
    """Return the body's length in bytes, or None if it is chunked."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None


def _joined(body: bytes) -> bytes:
    """Decode a chunked body."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        data, body = data + body[:length], body[length + 2 :]
        if not length:
            break
    return data


async def ask(url: str, request: Call) -> Reply:
    """Send one request on a new connection."""
    connection = await Connection.open(url)
    try:
        return await connection.ask(request)
    finally:
        connection.close()


class Client:
    """A caller that keeps its connection and reconnects if the server has closed it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    async def ask(self, request: Call) -> Reply | None:
        """Return the reply, or None if the server closed the connection twice.

        Servers close idle connections, possibly just when a request is sent, so that the first time is not a failure.
        """
        for _ in range(2):
            if self._connection is None or self._connection.lost:
                self._connection = await Connection.open(self._url)
            with suppress(ConnectionError):
                return await self._connection.ask(request)
        return None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


async def closed_loop(url: str, calls: Sequence[Call], *, clients: int, seconds: float, first: int = 0) -> Load:
    """Run `load.closed_loop` over HTTP with one connection per client; calls repeat after the last one."""
    callers = [Client(url) for _ in range(clients)]

    def asking(client: Client) -> load.Ask:
        async def ask(number: int) -> int | None:
            request = calls[number % len(calls)]
            return _rows(request, await client.ask(request))

        return ask

    result = await load.closed_loop(list(map(asking, callers)), seconds=seconds, first=first)
    for client in callers:
        client.close()
    return result


async def open_loop(url: str, calls: Sequence[Call], arrivals: Sequence[float], *, first: int = 0) -> Load:
    """Run `load.open_loop` over HTTP: a request uses a free client's connection, or opens another."""
    idle: list[Client] = []

    async def ask(number: int) -> int | None:
        request = calls[number % len(calls)]
        client = idle.pop() if idle else Client(url)
        reply = await client.ask(request)
        idle.append(client)
        return _rows(request, reply)

    result = await load.open_loop(ask, arrivals, first=first)
    for client in idle:
        client.close()
    return result


def _rows(request: Call, reply: Reply | None) -> int | None:
    return request.rows if reply is not None and reply.status == 200 else None
