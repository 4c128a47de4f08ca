"""What tests of several workers build with: the real command in a process, its workers, and a client of each."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil

from support import waiting
from support.server_process import ServerProcess, server_process
from support.tenancy import ADMIN_KEY, bearer


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
                answer = client.get("/healthz/live").raise_for_status()
                _, port = answer.extensions["network_stream"].get_extra_info("client_addr")
                clients.setdefault(self._worker_of(port), client)
                if set(clients) == wanted:
                    break
            assert set(clients) == wanted
            yield clients

    def _worker_of(self, port: int) -> int:
        """The worker with the connection from a port of a client."""
        for pid in self.workers():
            if any(c.raddr and c.raddr.port == port for c in psutil.Process(pid).net_connections("tcp")):
                return pid
        raise AssertionError(f"no worker has the connection from port {port}")

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


def admitted_of_ten(server: WorkersServer) -> int:
    """How many requests of a tenant that may send ten are answered, of many that are sent to each worker."""
    admin, statuses = bearer(ADMIN_KEY), Counter[int]()
    with server.client_of_each() as clients:
        one, *_ = clients.values()
        tenant = {"id": "acme", "requests_per_s": 0.0001}  # ten requests in a window of a day
        one.post("/admin/tenants", json=tenant, headers=admin).raise_for_status()
        key = one.post("/admin/tenants/acme/keys", json={}, headers=admin).raise_for_status().json()["key"]

        def ask(client: httpx2.Client) -> int:
            status = client.get("/limits", headers=bearer(key)).status_code
            statuses[status] += 1
            return status

        for client in clients.values():
            eventually(lambda client=client: ask(client) != 401)  # type: ignore[misc]
            for _ in range(20):
                ask(client)
    assert set(statuses) <= {200, 401, 429}
    return statuses[200]


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
