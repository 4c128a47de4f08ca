"""One Redis server as a store: clients, key prefix, short timeouts, errors without passwords.

No command is sent twice. A write whose reply was lost may have taken effect; its caller gets `RegistryUnavailable`.
A pooled connection that died while idle is replaced before it is used.
"""

import re
import ssl
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
_TIMEOUT_S = 1.0
_ASYNC_TIMEOUT_S = 0.25
"""Shorter: requests wait for it."""
_MAX_ASYNC_CONNECTIONS = 64
_CHECK_AFTER_IDLE_S = 10
_PAUSE_S = 0.1
_OPTIONS = {"db", "username", "password", "client_name", "max_connections", "socket_timeout", "socket_connect_timeout"}
"""Other options of redis-py would send commands twice or decode replies to text."""
_NO_NOTIFICATIONS = MaintNotificationsConfig(enabled=False)
"""They exist only in Redis Cloud and cost a round trip per connection."""
_TRANSIENT = (redis.ConnectionError, redis.TimeoutError, OSError)
_REFUSED = (redis.AuthenticationError, AuthorizationError)
_CERTIFICATE_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisStore:
    """Keys under one prefix of one server. Callable from any thread; connects at the first command."""

    client: redis.Redis
    """For threads. Replies are bytes."""
    async_pool: redis.asyncio.ConnectionPool
    """For the event loop."""
    prefix: str
    """All keys begin with it. A hash tag like `{superpos}` keeps them on one node of a cluster."""
    address: str
    """The server without user name and password, for logs and errors."""

    def key(self, *parts: str) -> str:
        """Return a key under the prefix."""
        return ":".join((self.prefix, *parts))

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn errors of Redis and of the network into `RegistryUnavailable`."""
        try:
            yield
        except (redis.RedisError, OSError) as exc:
            raise RegistryUnavailable(f"registry {self.address}: {exc}") from exc

    def wait(self, limit_s: float) -> None:
        """Return once the server answers.

        Raises:
            RegistryUnavailable: it did not answer in time, it refused the credentials, one side did not accept the
                other's certificate, or a file of certificates cannot be read
        """
        self._check_certificates()
        end = time.monotonic() + limit_s
        while True:
            try:
                with self.reaching():
                    self.client.ping()
                return
            except RegistryUnavailable as exc:
                if not _is_transient(exc.__cause__) or time.monotonic() >= end:
                    raise
            time.sleep(_PAUSE_S)

    def _check_certificates(self) -> None:
        """Load the files that the URL names: OpenSSL's errors at a handshake would not say which one is at fault."""
        options = self.client.connection_pool.connection_kwargs
        named = {option: str(options[option]) for option in _CERTIFICATE_FILES if options.get(option)}
        for option, path in named.items():
            try:
                Path(path).open("rb").close()
            except OSError as exc:
                raise RegistryUnavailable(f"registry {self.address}: {option} {path}: {exc.strerror}") from exc
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if "ssl_ca_certs" in named:
                context.load_verify_locations(named["ssl_ca_certs"])
            if "ssl_certfile" in named:
                context.load_cert_chain(
                    named["ssl_certfile"], named.get("ssl_keyfile"), options.get("ssl_password", "")
                )
        except (ssl.SSLError, OSError) as exc:
            paths = " and ".join(named.values())
            raise RegistryUnavailable(
                f"registry {self.address}: {paths}: {exc}; expected certificates in PEM, and a key that fits"
            ) from exc


def _is_transient(error: BaseException | None) -> bool:
    """Return whether the next attempt may succeed without a change of the URL, the certificates or the server."""
    return isinstance(error, _TRANSIENT) and not isinstance(error, _REFUSED) and not _is_about_certificates(error)


def _is_about_certificates(error: BaseException | None) -> bool:
    """Return whether one side did not accept the other's certificate; redis-py wraps the error of OpenSSL."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False


def connect(url: str) -> RedisStore:
    """Build the clients for a URL; nothing is sent yet.

    Args:
        url: as redis-py reads it (`rediss://` for TLS, user and password, `?db=`, `?socket_timeout=` in seconds,
            `?ssl_ca_certs=`, and `?ssl_certfile=` and `?ssl_keyfile=` of a client certificate), and `?prefix=`

    Raises:
        InvalidName: the URL is invalid; the message repeats no part of it, since it may hold a password
    """
    try:
        bare, prefix = _without_prefix(url)
        client = redis.Redis.from_url(
            bare,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            health_check_interval=_CHECK_AFTER_IDLE_S,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=_NO_NOTIFICATIONS,
        )
        client.connection_pool.make_connection()  # raises for options that connections do not take
        weakref.finalize(client, client.connection_pool.disconnect)  # also when it is freed as part of a cycle
        async_pool = redis.asyncio.BlockingConnectionPool.from_url(
            bare,
            max_connections=_MAX_ASYNC_CONNECTIONS,
            timeout=_ASYNC_TIMEOUT_S,
            socket_connect_timeout=_ASYNC_TIMEOUT_S,
            socket_timeout=_ASYNC_TIMEOUT_S,
            health_check_interval=_CHECK_AFTER_IDLE_S,
            retry=AsyncRetry(NoBackoff(), 0),
            maint_notifications_config=_NO_NOTIFICATIONS,
        )
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        raise InvalidName("registry", f"{url.partition('://')[0]}://…", _URL_RULE) from None
    if not _PREFIX.fullmatch(prefix):
        raise InvalidName("prefix", prefix, _PREFIX_RULE)
    return RedisStore(client, async_pool, prefix, _address(url, client, prefix))


def _without_prefix(url: str) -> tuple[str, str]:
    """Split off our own option: return the URL for redis-py, and the prefix."""
    bare, _, query = url.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    prefix = options.pop("prefix", [DEFAULT_PREFIX])[0]
    if not all(name in _OPTIONS or name.startswith("ssl_") for name in options):
        raise ValueError("unsupported option")
    return f"{bare}?{urlencode(options, doseq=True)}", prefix


def _address(url: str, client: redis.Redis, prefix: str) -> str:
    options = client.connection_pool.connection_kwargs
    host = options.get("host", "localhost")
    place = options.get("path") or f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
    suffix = "" if prefix == DEFAULT_PREFIX else f"?prefix={prefix}"
    return f"{url.partition('://')[0]}://{place}/{options.get('db', 0)}{suffix}"
