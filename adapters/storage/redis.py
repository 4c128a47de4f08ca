"""One Redis server as a place to store things: client, key prefix, short timeouts, errors without passwords.

Commands are never sent twice: a write whose answer was lost may have happened, and whoever made it is told
`RegistryUnavailable`. A pooled connection that died meanwhile is noticed before it is used.
"""

import re
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthorizationError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from adapters.errors import InvalidName, RegistryUnavailable

SCHEMES = ("redis://", "rediss://", "unix://")
DEFAULT_PREFIX = "superpos"

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}|\{[A-Za-z0-9._-]{1,64}\}")
_PREFIX_RULE = "1 to 64 letters, digits, '.', '_', '-'; in braces where Redis is a cluster"
_URL_RULE = "redis://[user:password@]host[:port][/db][?prefix=…], its special characters percent-encoded"
_CONNECT_TIMEOUT_S = 1.0
_READ_TIMEOUT_S = 1.0
_CHECK_AFTER_IDLE_S = 10
_PAUSE_S = 0.1
_OPTIONS = {"db", "username", "password", "client_name", "max_connections", "socket_timeout", "socket_connect_timeout"}
"""redis-py knows more: some send a command twice, or answer in text."""
_PASSING = (redis.ConnectionError, redis.TimeoutError, OSError)
_REFUSED = (redis.AuthenticationError, AuthorizationError)


@dataclass(frozen=True, slots=True)
class RedisStore:
    """Keys under one prefix of one server. Callable from any thread; connects at the first command."""

    client: redis.Redis
    """Answers in bytes."""
    prefix: str
    """No key of ours begins otherwise. A hash tag like `{superpos}` keeps all of them on one node of a cluster."""
    address: str
    """Where it is, without user or password: for logs and errors."""

    def key(self, *parts: str) -> str:
        """A key under the prefix."""
        return ":".join((self.prefix, *parts))

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn what Redis and the way to it raise within into `RegistryUnavailable`."""
        try:
            yield
        except (redis.RedisError, OSError) as exc:
            raise RegistryUnavailable(f"registry {self.address}: {exc}") from exc

    def wait(self, limit_s: float) -> None:
        """Return once the server answers.

        Raises:
            RegistryUnavailable: it does not in time, or at once where it answers that we may not
        """
        end = time.monotonic() + limit_s
        while True:
            try:
                with self.reaching():
                    self.client.ping()
                return
            except RegistryUnavailable as exc:
                passing = isinstance(exc.__cause__, _PASSING) and not isinstance(exc.__cause__, _REFUSED)
                if not passing or time.monotonic() >= end:
                    raise
            time.sleep(_PAUSE_S)


def connect(url: str) -> RedisStore:
    """Read a URL; nothing is sent yet.

    Args:
        url: as redis-py reads it (`rediss://` for TLS, user and password, `?db=`, `?socket_timeout=` in seconds,
            `?ssl_ca_certs=` and its like), and `?prefix=`

    Raises:
        InvalidName: it is no such URL; no part of it is repeated, for it may hold a password
    """
    try:
        bare, prefix = _without_prefix(url)
        client = redis.Redis.from_url(
            bare,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_timeout=_READ_TIMEOUT_S,
            health_check_interval=_CHECK_AFTER_IDLE_S,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),  # Redis Cloud's; a round trip each
        )
        client.connection_pool.make_connection()  # refuses options that no connection has
        weakref.finalize(client, client.connection_pool.disconnect)  # also where it ends as part of a cycle
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        raise InvalidName("registry", f"{url.partition('://')[0]}://…", _URL_RULE) from None
    if not _PREFIX.fullmatch(prefix):
        raise InvalidName("prefix", prefix, _PREFIX_RULE)
    return RedisStore(client, prefix, _address(url, client, prefix))


def connect_async(url: str, *, timeout_s: float, max_connections: int) -> tuple[redis.asyncio.ConnectionPool, str]:
    """As `connect`, for an event loop: connections, which each wait for no more than `timeout_s`, and the prefix."""
    bare, prefix = _without_prefix(url)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        bare,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        health_check_interval=_CHECK_AFTER_IDLE_S,
        retry=AsyncRetry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return pool, prefix


def _without_prefix(url: str) -> tuple[str, str]:
    """The URL as redis-py knows it, and our prefix."""
    bare, _, query = url.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    prefix = options.pop("prefix", [DEFAULT_PREFIX])[0]
    if not all(name in _OPTIONS or name.startswith("ssl_") for name in options):
        raise ValueError("an option that is not ours to take")
    return f"{bare}?{urlencode(options, doseq=True)}", prefix


def _address(url: str, client: redis.Redis, prefix: str) -> str:
    options = client.connection_pool.connection_kwargs
    host = options.get("host", "localhost")
    place = options.get("path") or f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
    suffix = "" if prefix == DEFAULT_PREFIX else f"?prefix={prefix}"
    return f"{url.partition('://')[0]}://{place}/{options.get('db', 0)}{suffix}"
