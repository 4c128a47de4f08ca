"""A Redis as a store: clients, key prefix, short timeouts, errors without passwords.

The Redis is one server, or the master that sentinels name (`sentinel.py`). No command is sent twice, with one
exception: a write that Redis refused without any effect. A write whose reply was lost may have taken effect; its caller
gets `RegistryUnavailable`. A pooled connection that died while idle is replaced before it is used.
"""

import re
import ssl
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import NoScriptError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from adapters.errors import InvalidName, OutcomeUnknown, RegistryReadOnly, RegistryUnavailable
from adapters.storage import sentinel
from adapters.storage.redis_faults import is_refused_write, is_transient
from adapters.storage.schemes import SENTINEL_SCHEMES

DEFAULT_PREFIX = "superpos"

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}|\{[A-Za-z0-9._-]{1,64}\}")
_PREFIX_RULE = "1 to 64 letters, digits, '.', '_', '-'; in braces where Redis is a cluster"
_URL_RULE = (
    "redis://[user:password@]host[:port][/db][?prefix=…], or "
    "redis+sentinel://[user:password@]host[:port],…/service[/db][?sentinel_password=…], "
    "its special characters percent-encoded"
)
_TIMEOUT_S = 1.0
_ASYNC_TIMEOUT_S = 0.25
"""Shorter: requests wait for it."""
_MAX_ASYNC_CONNECTIONS = 64
_CHECK_AFTER_IDLE_S = 10
_PAUSE_S = 0.1
_OPTIONS = {"db", "username", "password", "client_name", "max_connections", "socket_timeout", "socket_connect_timeout"}
"""Other options of redis-py would send commands twice or decode replies to text."""
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
_CONFIRM_SHARE = 0.5
"""Share of the time for a reply in which replicas may confirm a write."""
_NO_NOTIFICATIONS = MaintNotificationsConfig(enabled=False)
"""They exist only in Redis Cloud and cost a round trip per connection."""
_CERTIFICATE_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisStore:
    """Keys under one prefix. Callable from any thread; connects at the first command."""

    client: redis.Redis
    """For threads. Replies are bytes."""
    async_pool: redis.asyncio.ConnectionPool
    """For the event loop."""
    prefix: str
    """All keys begin with it. A hash tag like `{superpos}` keeps them on one node of a cluster."""
    address: str
    """The server or its sentinels without user name and password, for logs and errors."""
    min_replicas: int = 0
    """Number of replicas that must have a write before it succeeds."""

    def key(self, *parts: str) -> str:
        """Return a key under the prefix."""
        return ":".join((self.prefix, *parts))

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn errors of Redis and of the network into `RegistryUnavailable`, or `RegistryReadOnly` (no effect)."""
        try:
            yield
        except (redis.RedisError, OSError) as exc:
            message = f"registry {self.address}: {exc}"
            if not is_refused_write(exc):
                raise RegistryUnavailable(message) from exc
            # connections to a server that is no longer the master stay open: connect again, to the present one
            self.client.connection_pool.disconnect(inuse_connections=False)
            raise RegistryReadOnly(message) from exc

    def write(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script that writes; return its reply once `min_replicas` replicas have the write too.

        A refusal without effect is repeated once, over a new connection: the master may be another server now.

        Raises:
            RegistryReadOnly: the write was refused and had no effect
            OutcomeUnknown: too few replicas confirmed it in time; it may be lost if the master fails
            RegistryUnavailable: the reply was lost; the write may have taken effect
        """
        try:
            return self._write(script, keys, arguments)
        except RegistryReadOnly:
            return self._write(script, keys, arguments)

    def _write(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with self.reaching():
            if not self.min_replicas:
                return script(keys, arguments)
            try:
                return self._write_and_wait(script, keys, arguments)
            except NoScriptError:
                self.client.script_load(script.script)
                return self._write_and_wait(script, keys, arguments)

    def _write_and_wait(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script, then `WAIT` on the same connection.

        The key between them is written for scripts that find nothing to do, such as a publish that is repeated because
        it was not confirmed: `WAIT` covers what a connection has written, and with this key all that precedes it.
        """
        options = self.client.connection_pool.connection_kwargs
        limit_ms = int(1_000 * _CONFIRM_SHARE * float(options["socket_timeout"]))
        with self.client.pipeline(transaction=False) as pipe:
            pipe.evalsha(script.sha, len(keys), *keys, *arguments)
            pipe.set(self.key("confirmed"), "1")
            pipe.wait(self.min_replicas, limit_ms)
            reply, _, confirmed = pipe.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(confirmed, Exception) or confirmed < self.min_replicas:
            have = confirmed if isinstance(confirmed, int) else "an unknown number"
            raise OutcomeUnknown(
                f"the registry did not confirm the write: {have} of the {self.min_replicas} replicas that must have it "
                f"do after {limit_ms / 1_000:g} s, and it may be lost if the master fails; repeat it to have it "
                "confirmed"
            )
        return reply

    def wait(self, limit_s: float) -> None:
        """Return once the server answers.

        Raises:
            RegistryUnavailable: it did not answer in time, it refused the credentials, one side did not accept the
                other's certificate, a file of certificates cannot be read, or the sentinels know no such service
        """
        self._check_certificates()
        end = time.monotonic() + limit_s
        while True:
            try:
                with self.reaching():
                    self.client.ping()
                return
            except RegistryUnavailable as exc:
                if not is_transient(exc.__cause__) or time.monotonic() >= end:
                    raise
                if (fault := sentinel.lasting_fault(self.client)) is not None:
                    raise RegistryUnavailable(f"registry {self.address}: {fault}") from exc
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


def connect(url: str) -> RedisStore:
    """Build the clients for a URL; nothing is sent yet.

    Args:
        url: as redis-py reads it (`rediss://` for TLS, user and password, `?db=`, `?socket_timeout=` in seconds,
            `?ssl_ca_certs=`, and `?ssl_certfile=` and `?ssl_keyfile=` of a client certificate), or as `SentinelUrl`
            does; with `?prefix=` and `?min_replicas=`

    Raises:
        InvalidName: the URL is invalid; the message repeats no part of it, since it may hold a password
    """
    try:
        bare, prefix, min_replicas = _without_own_options(url)
        client, async_pool, address = _of_sentinels(bare) if bare.startswith(SENTINEL_SCHEMES) else _of_one_server(bare)
        client.connection_pool.make_connection()  # raises for options that connections do not take
        weakref.finalize(client, client.connection_pool.disconnect)  # also when it is freed as part of a cycle
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        raise InvalidName("registry", f"{url.partition('://')[0]}://…", _URL_RULE) from None
    if not _PREFIX.fullmatch(prefix):
        raise InvalidName("prefix", prefix, _PREFIX_RULE)
    if prefix != DEFAULT_PREFIX:
        address += f"?prefix={prefix}"
    return RedisStore(client, async_pool, prefix, address, min_replicas)


_Clients = tuple[redis.Redis, redis.asyncio.ConnectionPool, str]
_OF_ALL: dict[str, Any] = {
    "health_check_interval": _CHECK_AFTER_IDLE_S,
    "maint_notifications_config": _NO_NOTIFICATIONS,
}


def _of_one_server(url: str) -> _Clients:
    client = redis.Redis.from_url(url, **_options(_TIMEOUT_S), retry=Retry(NoBackoff(), 0))
    async_pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_ASYNC_CONNECTIONS,
        timeout=_ASYNC_TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 0),
        **_options(_ASYNC_TIMEOUT_S),
    )
    return client, async_pool, _address(url, client)


def _of_sentinels(url: str) -> _Clients:
    parsed = sentinel.SentinelUrl.parse(url)
    client = parsed.client(**_options(_TIMEOUT_S), retry=Retry(NoBackoff(), 0))
    async_pool = parsed.async_pool(
        max_connections=_MAX_ASYNC_CONNECTIONS,
        timeout=_ASYNC_TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 0),
        **_options(_ASYNC_TIMEOUT_S),
    )
    return client, async_pool, parsed.address


def _options(timeout_s: float) -> dict[str, Any]:
    return {**_OF_ALL, "socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}


def _without_own_options(url: str) -> tuple[str, str, int]:
    """Split off our own options: return the URL for redis-py, the prefix, and the number of replicas."""
    bare, _, query = url.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    prefix = options.pop("prefix", [DEFAULT_PREFIX])[0]
    min_replicas = int(options.pop("min_replicas", ["0"])[0])
    allowed = _OPTIONS | _SENTINEL_OPTIONS if bare.startswith(SENTINEL_SCHEMES) else _OPTIONS
    if min_replicas < 0 or not all(name in allowed or name.startswith("ssl_") for name in options):
        raise ValueError("unsupported option")
    return f"{bare}?{urlencode(options, doseq=True)}", prefix, min_replicas


def _address(url: str, client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    host = options.get("host", "localhost")
    place = options.get("path") or f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
    return f"{url.partition('://')[0]}://{place}/{options.get('db', 0)}"
