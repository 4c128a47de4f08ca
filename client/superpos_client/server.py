"""The server that a client calls: its address, the key, and what the transport's errors mean."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

from superpos_client.calls import Answer, Call, T
from superpos_client.errors import InvalidAnswer, SuperposError, Unreachable, error_of
from superpos_client.retries import BROKEN_OFF, INVALID_ANSWER, NOT_CONNECTED, Deadline
from superpos_client.version import __version__

URL, API_KEY, API_KEY_FILE = "SUPERPOS_URL", "SUPERPOS_API_KEY", "SUPERPOS_API_KEY_FILE"
DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 5.0
"""Shorter than most deadlines, so that another try may meet another replica."""
KEEPALIVE_S = 3.0
"""Less than the server's 5 s: a request on a connection that the server is closing would be lost."""
MAX_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Server:
    """Address and key."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    name: str
    """The address without a password, for messages."""

    @classmethod
    def of(cls, url: str | None, api_key: str | None) -> Self:
        """Complete the arguments of a client from the environment.

        Raises:
            ValueError: the address is not one, or the key cannot be sent; the message does not repeat the key
            OSError: the file with the key cannot be read
        """
        address = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
        try:
            parsed = httpx2.URL(address)
        except httpx2.InvalidURL as exc:
            raise ValueError(f"{address!r} is not a valid address: {exc}") from exc
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{address!r} is not a valid address: expected http://… or https://…")
        key = _read(api_key or os.environ.get(API_KEY) or _key_file())
        headers = {"User-Agent": f"superpos-client/{__version__}"}
        if key:
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise ValueError("the API key has characters that no key has; expected sp_<id>_<secret>")
            headers["Authorization"] = f"Bearer {key}"
        return cls(address, headers, str(parsed.copy_with(userinfo=b"")) if parsed.userinfo else address)

    @property
    def verify(self) -> bool:
        """Whether certificates are needed: reading them takes 0.05 s."""
        return self.url.startswith("https:")

    def read(self, call: Call[T], answer: Answer) -> T:
        """Return what an answer holds.

        Raises:
            SuperposError: the answer is an error, or cannot be read
        """
        if not 200 <= answer.status < 300 and answer.status not in call.allowed:
            raise error_of(self.name, answer.status, answer.headers, answer.content)
        try:
            return call.read(answer)
        except (ValueError, KeyError, TypeError) as exc:
            detail = f"the answer to {call.method} {call.path} cannot be read: {type(exc).__name__}: {exc}"
            raise InvalidAnswer(
                f"{self.name}: {detail}",
                status=answer.status,
                code=INVALID_ANSWER,
                detail=detail,
                request_id=answer.headers.get("X-Request-ID"),
            ) from exc

    def error(self, exc: Exception, deadline: Deadline) -> SuperposError:
        """Return the client's error for one of the transport."""
        what = str(exc) or type(exc).__name__
        if isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol):
            message = f"cannot reach {self.name}: {what}; is 'superpos serve' running?"
            return Unreachable(message, code=NOT_CONNECTED, detail=what)
        if isinstance(exc, httpx2.TimeoutException | TimeoutError):
            return deadline.exceeded(self.name)
        return Unreachable(f"{self.name} broke off its answer: {what}", code=BROKEN_OFF, detail=what)


def timeouts(deadline: Deadline) -> httpx2.Timeout:
    """Return the limits of one try: the transport never waits longer at a time than the rest of the call."""
    left = max(0.001, deadline.remaining_s)
    return httpx2.Timeout(left, connect=min(left, CONNECT_TIMEOUT_S))


def _key_file() -> str | None:
    """Return `@FILE` for the file that SUPERPOS_API_KEY_FILE names, as container engines mount secrets."""
    file = os.environ.get(API_KEY_FILE)
    return f"@{file}" if file else None


def _read(key: str | None) -> str | None:
    """Return a key, or for `@FILE` the first line of that file."""
    if key is None or not key.startswith("@"):
        return key
    lines = Path(key[1:]).read_text(encoding="utf-8").splitlines()
    return lines[0].strip() if lines else None
