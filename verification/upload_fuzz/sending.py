"""Sends mutated uploads to a server, several at once, and judges each response."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx2

from adapters import InvalidAdapter, PromptAdapter
from benchmarks.common.http_load import Reply
from verification.upload_fuzz.mutations import Mutated, mutated
from verification.upload_fuzz.verdict import Findings, wrong_with, wrong_with_accepted

MAX_SECONDS = 1.0
GIVE_UP_S = 30.0
NUM_TRIES_ALONE = 2
_PATIENCE_S = 0.1
"""Seconds after which the sender closes an incomplete request."""


async def attack(
    url: str,
    base: PromptAdapter,
    *,
    uploads: int,
    seed: int,
    senders: int = 4,
    max_seconds: float = MAX_SECONDS,
    progress: Callable[[int], None] = lambda _: None,
) -> Findings:
    """Send uploads 0, 1, 2 … of a seed, and judge each.

    Args:
        url: address of a server without keys
        base: an adapter that the server accepts
        uploads: number of uploads
        seed: seed of all mutations
        senders: number of concurrent uploads
        max_seconds: limit from the upload's last byte to the response
        progress: called with the number of answered uploads
    """
    found, numbers = Findings(max_seconds=max_seconds), iter(range(uploads))
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as work:
        for sender in range(senders):
            task = f"fuzz-{sender}"  # a copy, since the verdict deletes from it
            made = _made(base, numbers, seed=seed, task=task)
            fingerprint = base.manifest.backbone.fingerprint
            work.create_task(_send_all(client, task, made, found, progress, fingerprint=fingerprint))
    for upload in found.late:
        await _again(url, upload, found)
    return found


def _made(base: PromptAdapter, numbers: Iterator[int], *, seed: int, task: str) -> Iterator[Mutated]:
    for number in numbers:
        yield mutated(base, number, seed=seed, task=task)


async def _send_all(
    client: httpx2.AsyncClient,
    task: str,
    uploads: Iterator[Mutated],
    found: Findings,
    progress: Callable[[int], None],
    *,
    fingerprint: str,
) -> None:
    for upload in uploads:
        found.mutations.update(upload.mutations)
        try:
            reply, seconds = await timed(str(client.base_url), upload)
            wrong = wrong_with(upload, reply, found)
            if wrong is None and reply is not None and reply.status in {200, 201}:
                found.accepted += 1
                wrong = await wrong_with_accepted(client, task, reply, fingerprint=fingerprint)
        except (TimeoutError, OSError, httpx2.HTTPError, InvalidAdapter, KeyError) as exc:
            found.violations.append((upload, f"{type(exc).__name__} {exc}"))
        else:
            if wrong is not None:
                found.violations.append((upload, wrong))
            found.took(upload, seconds)
        progress(found.statuses.total())


async def _again(url: str, upload: Mutated, found: Findings) -> None:
    """Resend a slow upload alone: a real hang repeats."""
    for _ in range(NUM_TRIES_ALONE):
        with suppress(TimeoutError):
            _, seconds = await timed(url, upload)
            if seconds <= found.max_seconds:
                return
    found.violations.append((upload, f"it takes more than {found.max_seconds:g} s each time"))


async def timed(url: str, upload: Mutated) -> tuple[Reply | None, float]:
    """Send one upload on a new connection; return the response (None if the connection was closed) and its seconds.

    Raises:
        TimeoutError: no response within `GIVE_UP_S`
        OSError: the connection is refused
    """
    address = httpx2.URL(url)
    async with asyncio.timeout(GIVE_UP_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        sending = asyncio.create_task(_write(writer, upload))
        try:
            data = await _read(reader)
            return _reply(data), time.monotonic() - (sending.result() if sending.done() else time.monotonic())
        finally:
            sending.cancel()
            writer.close()


async def _write(writer: asyncio.StreamWriter, upload: Mutated) -> float:
    """Send everything; return the time of the last byte."""
    with suppress(ConnectionError):
        writer.write(upload.request)
        await writer.drain()
    sent = time.monotonic()
    if not upload.is_http:
        await asyncio.sleep(_PATIENCE_S)
        with suppress(OSError):
            writer.write_eof()  # otherwise the server waits for announced bytes
    return sent


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read everything until the server closes the connection."""
    data = bytearray()
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            data += piece
    return bytes(data)


def _reply(data: bytes) -> Reply | None:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    if head.startswith(b"HTTP/1.1 1"):  # 100 Continue
        return _reply(body)
    if b"content-encoding: gzip" in head.lower():
        body = gzip.decompress(body)
    return Reply(int(head[9:12]), head, body)
