"""Decompresses gzipped request bodies in chunks."""

import asyncio
import zlib

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import MalformedBody, UnsupportedEncoding

CHUNK_BYTES = 64 << 10
"""Size of a decompressed chunk: a body that expands to a gigabyte is never in memory as a whole."""

_MAX_MEMBERS = 64
"""Maximum gzip members of a body: each costs a turn of the event loop, and an empty one takes only 20 bytes."""
_GZIP = ("gzip", "x-gzip")
_WITH_GZIP_HEADER = zlib.MAX_WBITS | 16


class GunzipMiddleware:
    """Decompresses bodies with `Content-Encoding: gzip`; rejects other codings with 415.

    Sizes are limited by two `BodyLimitMiddleware`s: the outer counts bytes on the wire, the inner decompressed bytes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        coding = Headers(scope=scope).get("Content-Encoding", "").strip() if scope["type"] == "http" else ""
        if coding.lower() in ("", "identity"):
            await self._app(scope, receive, send)
        elif coding.lower() in _GZIP:
            wire_only = (b"content-encoding", b"content-length", b"transfer-encoding")
            headers = [header for header in scope["headers"] if header[0].lower() not in wire_only]
            # in place: the outer middleware reads what the router adds to this scope
            scope["headers"] = [*headers, (b"transfer-encoding", b"chunked")]  # of unknown length now
            await self._app(scope, _Inflating(receive).receive, send)
        else:
            refusal = UnsupportedEncoding(f"Content-Encoding is {coding!r}, expected gzip or no encoding")
            await problem_response(Request(scope), refusal)(scope, receive, send)


class _Inflating:
    """One gzipped body, which may have several members."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._member = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._pending = b""
        self._more_on_wire, self._done = True, False
        self._num_members = 1

    async def receive(self) -> Message:
        """Return the next decompressed chunk (`MalformedBody` if the body is not gzip or is truncated)."""
        if self._done:
            return await self._receive()
        while not self._pending and self._more_on_wire:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._pending = message.get("body", b"")
            self._more_on_wire = message.get("more_body", False)
        await asyncio.sleep(0)  # a chunk takes 0.1 ms: other requests run in between
        plain = self._inflate()
        self._done = not self._pending and not self._more_on_wire
        if self._done and not self._member.eof:
            raise MalformedBody("the gzipped body is truncated")
        return {"type": "http.request", "body": plain, "more_body": not self._done}

    def _inflate(self) -> bytes:
        if self._member.eof and self._pending:  # another member follows
            self._num_members += 1
            if self._num_members > _MAX_MEMBERS:
                raise MalformedBody(f"the gzipped body has more than {_MAX_MEMBERS} members; compress it as one")
            self._member = zlib.decompressobj(_WITH_GZIP_HEADER)
        try:
            plain = self._member.decompress(self._pending, CHUNK_BYTES)
        except zlib.error as exc:
            raise MalformedBody(f"the body is not gzip: {exc}") from exc
        self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return plain
