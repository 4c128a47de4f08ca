"""A replicated Redis as programs on one machine: servers, one of them the master, and sentinels that name it.

The configuration is the one that docs/operations.md describes, with shorter delays.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from deploy.debian_tools import library_path
from deploy.program import Program, Sink

HOST = "127.0.0.1"
SERVICE = "superpos"
_CONFIGURATION = Path(__file__).with_name("redis.conf")
_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays of a failover."""

    down_after_ms: int = 1_000
    """How long a server must be silent to count as down."""
    failover_timeout_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class ReplicatedRedis:
    """Servers and sentinels, of which all can be killed and started again."""

    servers: Sequence[Program]
    server_ports: Sequence[int]
    sentinels: Sequence[Program]
    sentinel_ports: Sequence[int]
    password: str
    sentinel_password: str
    tls: str
    """Options of a URL for TLS, such as `ssl_ca_certs=…&ssl_certfile=…`; empty without."""

    @property
    def programs(self) -> Sequence[Program]:
        """All programs in starting order."""
        return (*self.servers, *self.sentinels)

    def url(self, *, min_replicas: int) -> str:
        """Return the registry's URL."""
        sentinels = ",".join(f"{HOST}:{port}" for port in self.sentinel_ports)
        scheme = "rediss+sentinel" if self.tls else "redis+sentinel"
        options = f"sentinel_password={self.sentinel_password}&min_replicas={min_replicas}"
        return f"{scheme}://:{self.password}@{sentinels}/{SERVICE}?{options}{self.tls and '&'}{self.tls}"

    def start(self) -> None:
        """Start all programs; return once the sentinels know the replicas and one another."""
        for together in (self.servers, self.sentinels):
            for program in together:
                program.start()
            for program in together:
                program.wait_ready()

    def stop(self) -> None:
        """Stop all running programs."""
        for program in reversed(self.programs):
            program.stop()


def make_replicated_redis(
    folder: Path,
    program: Path,
    server_ports: Sequence[int],
    sentinel_ports: Sequence[int],
    *,
    sink: Sink,
    timing: Timing = Timing(),
    certificate: tuple[Path, Path, Path] | None = None,
) -> ReplicatedRedis:
    """Configure the programs without starting them; the first server is the master at first.

    Args:
        folder: folder of data and configuration, in which the programs note failovers
        program: `redis-server`
        server_ports: port of each server
        sentinel_ports: port of each sentinel
        sink: receives the programs' output
        timing: delays of a failover
        certificate: certificate, key, and the authority of clients and servers, to speak TLS only
    """
    password, sentinel_password = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    tls = _tls_lines(certificate)
    options = "" if certificate is None else _url_options(certificate)
    connect = _connector(certificate)

    def make(name: str, port: int, lines: Sequence[str], *more: str, is_ready: Callable[[], bool]) -> Program:
        own = folder / f"{name}-{port}"
        own.mkdir(parents=True, mode=0o700)
        listen = [f"port {port}"] if certificate is None else ["port 0", f"tls-port {port}", *tls]
        configuration = own / "redis.conf"
        configuration.write_text("\n".join([*lines, *listen, f"bind {HOST}", f"dir {own}", ""]), encoding="utf-8")
        return Program(f"{name}-{port}", [program, configuration, *more], library_path(program), is_ready, sink)

    servers = []
    for port in server_ports:
        lines = [f"include {_CONFIGURATION}", f"requirepass {password}", f"masterauth {password}"]
        lines += ["min-replicas-to-write 1", "min-replicas-max-lag 10", "repl-diskless-sync-delay 0"]
        lines += [f"replicaof {HOST} {server_ports[0]}"] if port != server_ports[0] else []
        servers.append(make("redis", port, lines, is_ready=_answers(connect(port, password))))
    sentinels = []
    for port in sentinel_ports:
        lines = [f"requirepass {sentinel_password}", f"sentinel sentinel-pass {sentinel_password}"]
        lines += [f"sentinel monitor {SERVICE} {HOST} {server_ports[0]} {len(sentinel_ports) // 2 + 1}"]
        lines += [f"sentinel auth-pass {SERVICE} {password}"]
        lines += [f"sentinel down-after-milliseconds {SERVICE} {timing.down_after_ms}"]
        lines += [f"sentinel failover-timeout {SERVICE} {timing.failover_timeout_ms}"]
        ready = _knows(connect(port, sentinel_password), len(server_ports) - 1, len(sentinel_ports) - 1)
        sentinels.append(make("sentinel", port, lines, "--sentinel", is_ready=ready))
    return ReplicatedRedis(servers, server_ports, sentinels, sentinel_ports, password, sentinel_password, options)


def _connector(certificate: tuple[Path, Path, Path] | None) -> Callable[[int, str], redis.Redis]:
    def connect(port: int, password: str) -> redis.Redis:
        tls = {}
        if certificate is not None:
            own, key, authority = map(str, certificate)
            tls = {"ssl": True, "ssl_certfile": own, "ssl_keyfile": key, "ssl_ca_certs": authority}
        return redis.Redis(HOST, port, password=password, socket_timeout=_WITHIN_S, **tls)  # type: ignore[arg-type]

    return connect


def _answers(client: redis.Redis) -> Callable[[], bool]:
    """Return whether a server answers and, as a replica, has what its master has."""

    def ready() -> bool:
        try:
            state = client.info("replication")
        except redis.RedisError:
            return False
        return bool(state["role"] == "master" or state["master_link_status"] == "up")

    return ready


def _knows(client: redis.Redis, replicas: int, others: int) -> Callable[[], bool]:
    """Return whether a sentinel knows all replicas and other sentinels: before that, a failover may not succeed."""

    def ready() -> bool:
        try:
            state = cast(dict[str, Any], client.sentinel_master(SERVICE))
        except redis.RedisError:
            return False
        return bool(state["num-slaves"] >= replicas and state["num-other-sentinels"] >= others)

    return ready


def _tls_lines(certificate: tuple[Path, Path, Path] | None) -> list[str]:
    if certificate is None:
        return []
    own, key, authority = certificate
    files = [f"tls-cert-file {own}", f"tls-key-file {key}", f"tls-ca-cert-file {authority}"]
    return [*files, "tls-replication yes", "tls-auth-clients yes"]


def _url_options(certificate: tuple[Path, Path, Path]) -> str:
    own, key, authority = certificate
    return f"ssl_certfile={own}&ssl_keyfile={key}&ssl_ca_certs={authority}"
