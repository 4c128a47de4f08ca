"""Redis Sentinel: reads its URL, and makes clients of the master that the sentinels name.

Each new connection asks the sentinels for the master, so that a client follows a failover when it connects again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import redis
import redis.asyncio
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncSSLConnection
from redis.connection import parse_url
from redis.sentinel import Sentinel, SentinelConnectionPool

from adapters.storage.redis_faults import REFUSED, is_about_certificates

_DEFAULT_PORT = 26379
_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}
"""Options of the URL for the sentinels, by their names for a connection."""
_OF_A_SERVER = ("host", "port", "connection_class")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db][?options]`."""

    sentinels: Sequence[tuple[str, int]]
    service: str
    """The name under which the sentinels monitor the master."""
    master: Mapping[str, Any]
    """Options of connections to the master, from the URL; user and password are the master's."""
    login: Mapping[str, str]
    """User name and password of the sentinels themselves."""

    @classmethod
    def parse(cls, url: str) -> "SentinelUrl":
        """Read a URL (`ValueError`)."""
        scheme, _, rest = url.partition("://")
        place, _, query = rest.partition("?")
        authority, _, path = place.partition("/")
        login, separator, hosts = authority.rpartition("@")
        service, _, db = path.strip("/").partition("/")
        if not service or not hosts or (db and not db.isdecimal()):
            raise ValueError("a service name and hosts are missing, or the database is not a number")
        options = parse_qs(query, keep_blank_values=True)
        sentinel_login = {name: options.pop(option)[0] for option, name in _LOGIN.items() if option in options}
        kind = "rediss" if scheme.startswith("rediss") else "redis"
        single = f"{kind}://{login}{separator}master/{db}?{urlencode(options, doseq=True)}"
        master = parse_url(single)  # type: ignore[no-untyped-call]
        master = {name: value for name, value in master.items() if name not in _OF_A_SERVER}
        if kind == "rediss":
            master["ssl"] = True
        return cls(tuple(_host_and_port(host) for host in hosts.split(",")), unquote(service), master, sentinel_login)

    @property
    def address(self) -> str:
        """The sentinels, service and database, without user names and passwords."""
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.sentinels)
        return f"redis{'s' if self.master.get('ssl') else ''}+sentinel://{hosts}/{self.service}/{self._db}"

    @property
    def _db(self) -> int:
        return int(self.master.get("db", 0))

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of the master for threads, with these options of its connections; nothing is sent yet."""
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            self.sentinels, sentinel_kwargs=self._of_sentinels(options), **{**options, **self.master}
        )
        client: redis.Redis = sentinel.master_for(self.service)  # type: ignore[no-untyped-call]
        return client

    def async_pool(self, *, max_connections: int, timeout: float, **options: Any) -> redis.asyncio.ConnectionPool:
        """Return a pool of connections to the master for the event loop.

        Args:
            max_connections: at this number a command waits for a connection
            timeout: how long, in seconds
            options: options of the connections
        """
        of_sentinels = self._of_sentinels(options)
        sentinel = AsyncSentinel(self.sentinels, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
        of_master = {name: value for name, value in self.master.items() if name != "ssl"}
        return _AsyncMasterPool(
            service_name=self.service,
            sentinel_manager=sentinel,
            connection_class=AsyncSSLConnection if self.master.get("ssl") else AsyncConnection,
            **{"max_connections": max_connections, "timeout": timeout, **options, **of_master},
        )

    def _of_sentinels(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of connections to sentinels: their own login, and the master's timeouts and TLS."""
        shared = {name: value for name, value in self.master.items() if name.startswith(("ssl", "socket_"))}
        return {**options, **shared, **self.login}


class _AsyncMasterPool(BlockingConnectionPool, AsyncSentinelConnectionPool):
    """Pool of connections to the master. A full one makes commands wait; redis-py's own would fail them."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; with those in use also the ones to the sentinels."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()


def lasting_fault(client: redis.Redis) -> str | None:
    """Return why no master was found, if waiting does not help; None if it may, or if there are no sentinels.

    Waiting does not help if every sentinel refuses the login or a certificate, or monitors only other services.
    """
    pool = client.connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        return None
    faults: list[str] = []
    for sentinel in pool.sentinel_manager.sentinels:
        try:
            names = sorted(sentinel.sentinel_masters())
        except (redis.RedisError, OSError) as exc:
            if not isinstance(exc, REFUSED) and not is_about_certificates(exc):
                return None
            faults.append(f"a sentinel refused the connection: {exc}; its password is the option sentinel_password")
        else:
            if pool.service_name in names:
                return None
            others = ", ".join(map(repr, names)) or "nothing"
            faults.append(f"the sentinels monitor {others}, expected {pool.service_name!r}, the URL's service name")
    return faults[0] if faults else None


def _host_and_port(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host = unquote(host if separator else text).strip("[]")
    if not host:
        raise ValueError("a host is empty")
    return host, int(port) if separator else _DEFAULT_PORT
