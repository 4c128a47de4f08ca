"""What tests of several workers build with: the real command in a process, its workers, and a client of each."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil

from support import waiting
from support.server_process import ServerProcess, server_process


def eventually(condition: Callable[[], bool], *, within_s: float = 60) -> None:
    """Wait for something that another process is about to do."""
    waiting.eventually(condition, within_s=within_s)


@dataclasses.dataclass
class WorkersServer(ServerProcess):
    """`superpos serve --workers 2` in a process of its own."""

    def workers(self) -> set[int]:
        """The ids of its processes that take connections."""
        found = set()
        for child in psutil.Process(self.process.pid).children():
            try:
                if any(c.status == psutil.CONN_LISTEN for c in child.net_connections("tcp")):
                    found.add(child.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended meanwhile
        return found

    @contextmanager
    def client_of_each(self) -> Iterator[dict[int, httpx2.Client]]:
        """A client by the worker that its connection, kept open, leads to."""
        with ExitStack() as stack:
            clients: dict[int, httpx2.Client] = {}
            wanted = self.workers()
            for _ in range(200):
                client = stack.enter_context(httpx2.Client(base_url=self.url, timeout=60, verify=False))
                before = {pid: self._num_connections(pid) for pid in wanted}
                client.get("/healthz/live").raise_for_status()
                reached = [pid for pid in wanted if self._num_connections(pid) > before[pid]]
                clients.setdefault(reached[0], client)
                if set(clients) == wanted:
                    break
            assert set(clients) == wanted
            yield clients

    def _num_connections(self, pid: int) -> int:
        return sum(c.status == psutil.CONN_ESTABLISHED for c in psutil.Process(pid).net_connections("tcp"))

    def samples(self) -> dict[str, float]:
        """A scrape of whichever worker answers."""
        with httpx2.Client(base_url=self.url, timeout=60, verify=False) as client:
            return samples(client)


def samples(client: httpx2.Client) -> dict[str, float]:
    """Every sample of a scrape by its name and labels."""
    lines = client.get("/metrics").raise_for_status().text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def total(scraped: dict[str, float], name: str) -> float:
    """The sum over a metric's labels."""
    return sum(value for key, value in scraped.items() if key == name or key.startswith(name + "{"))


@contextmanager
def serving(
    backbone: str | Path, registry: Path | str, *options: str, wait: bool = True, **environment: str
) -> Iterator[WorkersServer]:
    """Two workers, all of them serving if waited for; ended with the block. A registry in Redis needs a `TMPDIR`."""
    if isinstance(registry, Path):
        environment = {"TMPDIR": str(registry.parent), **environment}
    environment = {"SUPERPOS_POLL_INTERVAL_S": "0.05", **environment}
    with server_process(backbone, registry, "--workers", "2", *options, wait=wait, **environment) as server:
        yield WorkersServer(server.process, server.lines)
