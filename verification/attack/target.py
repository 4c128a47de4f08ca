"""`Target`: the server under attack, a real process with keys, on SQLite or Redis, with one or several workers."""

import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.common.server_process import SUPERPOS, free_port
from deploy.program import Program
from deploy.secret_files import ADMIN_KEY, REGISTRY, make_secrets
from deploy.stack import HOST, answers, redis_program
from service.settings import default_cache_dir

Store = Literal["sqlite", "redis"]
MAX_DESCRIPTORS = 256
"""Descriptors that each process of the server may open, so that a few hundred connections are an attack."""
ROOT = Path(__file__).parents[2]


@dataclass
class Log:
    """A server's output: its size and its last lines."""

    size_bytes: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=20_000))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, _: str, line: str) -> None:
        """Count a line."""
        with self._lock:
            self.size_bytes += len(line) + 1
            self.lines.append(line)

    def text(self) -> str:
        """Return the last lines."""
        with self._lock:
            return "\n".join(self.lines)

    def of_request(self, request_id: str) -> list[dict[str, object]]:
        """Return the entries about one request."""
        found = [line for line in self.text().splitlines() if request_id in line]
        return [json.loads(line) for line in found if line.startswith("{")]


@dataclass
class Target:
    """The server, and the parts of it that an attack may look at or stop."""

    url: str
    admin_key: str
    """The operator's key in the settings."""
    registry: str
    """Location of its registry."""
    folder: Path
    """Folder of its data."""
    log: Log
    processes: "list[psutil.Process]"
    server: Program | None = None
    """None if the server is a thread of this process, which cannot be restarted."""
    redis: Program | None = None

    @property
    def store(self) -> Store:
        """The kind of its registry."""
        return "redis" if "://" in self.registry else "sqlite"

    @property
    def resident_bytes(self) -> int:
        """Memory of all its processes."""
        total = 0
        for process in self.processes:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    @property
    def is_alive(self) -> bool:
        """Whether every process that served at the start still runs."""
        return all(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in self.processes)

    def restart(self) -> None:
        """Stop the server and start it with the same settings."""
        assert self.server is not None
        self.server.stop()
        self.server.start()
        self.server.wait_ready()
        self.look_up_processes()

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Stop Redis during the block, and wait until it answers again."""
        assert self.redis is not None
        self.redis.stop()
        try:
            yield
        finally:
            self.redis.start()
            self.redis.wait_ready()

    def look_up_processes(self) -> None:
        """Find the processes that serve."""
        assert self.server is not None
        parent = psutil.Process(self.server.pid)
        self.processes = [parent, *parent.children(recursive=True)]


@contextmanager
def served(backbone: str, *, store: Store, workers: int, folder: Path, settings: Mapping[str, str]) -> Iterator[Target]:
    """Start a server with an empty registry; yield it when it is ready, and stop it with the block.

    Args:
        backbone: as in SUPERPOS_BACKBONE
        store: where it keeps its registry
        workers: number of its processes
        folder: an empty folder
        settings: more `SUPERPOS_…` settings

    Raises:
        ProgramFailed: Redis or the server did not start
    """
    log, port, redis_port = Log(), free_port(), free_port()
    secrets = folder / "secrets"
    make_secrets(secrets, redis=f"{HOST}:{redis_port}")
    redis = redis_program(folder, redis_port, lambda *_: None) if store == "redis" else None
    if store == "sqlite":
        (secrets / REGISTRY).write_text(str(folder / "registry.sqlite"), encoding="utf-8")
    url = f"http://{HOST}:{port}"
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        "SUPERPOS_CACHE_DIR": os.environ.get("SUPERPOS_CACHE_DIR") or str(default_cache_dir()),
        "SUPERPOS_SECRETS_DIR": str(secrets),
        "SUPERPOS_BACKBONE": backbone,
        "SUPERPOS_BUNDLED": "false",
        "SUPERPOS_REQUIRE_KEYS": "true",
        "SUPERPOS_HOST": HOST,
        "SUPERPOS_PORT": str(port),
        "SUPERPOS_WORKERS": str(workers),
        "SUPERPOS_LOG_FORMAT": "json",
        **settings,
    }
    if not environment["OMP_NUM_THREADS"]:
        del environment["OMP_NUM_THREADS"]
    command = ["sh", "-c", f'ulimit -n {MAX_DESCRIPTORS}; exec "$@"', "sh", SUPERPOS, "serve"]
    server = Program("server", command, environment, answers(f"{url}/healthz/ready"), log.add)
    target = Target(
        url,
        (secrets / ADMIN_KEY).read_text(encoding="ascii").strip(),
        (secrets / REGISTRY).read_text(encoding="utf-8").strip(),
        folder,
        log,
        [],
        server,
        redis,
    )
    try:
        if redis is not None:
            redis.start()
            redis.wait_ready()
        server.start()
        server.wait_ready()
        target.look_up_processes()
        yield target
    finally:
        server.stop()
        if redis is not None:
            redis.stop()
