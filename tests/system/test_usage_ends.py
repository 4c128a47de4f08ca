"""What usage is left when a real server ends: all of it after SIGTERM, all but the last second after SIGKILL."""

import sys
import time
from datetime import date
from pathlib import Path

import httpx2
import pytest
from support.adapters import make_adapter
from support.workers import WorkersServer, eventually, serving

from adapters.files import to_files
from adapters.registry.opening import open_registry
from adapters.storage.sqlite import SqliteFile
from backbone import Backbone
from service.counters.sqlite_store import SqliteCounterStore
from service.monitoring.usage import USAGE, usage_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


@pytest.fixture
def registry(tiny: Backbone, tmp_path: Path) -> Path:
    """A file with one task."""
    path = tmp_path / "registry.sqlite"
    open_registry(path).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    return path


def counted(registry: Path) -> tuple[int, int]:
    """Requests and rows of the task that are stored, whoever runs."""
    counts = SqliteCounterStore(SqliteFile(registry)).read(USAGE, "default", "sentiment")
    rows = usage_rows(counts, since=date.min, until=date.max)
    return sum(row.requests for row in rows), sum(row.rows for row in rows)


def ask(client: httpx2.Client) -> None:
    client.post("/classify/sentiment", json={"inputs": ["a film", "flat"]}).raise_for_status()


def test_a_server_that_is_told_to_end_has_stored_all_its_usage(tiny_t5: Path, registry: Path) -> None:
    with serving(tiny_t5, registry) as server, server.client_of_each() as clients:
        for client in [*clients.values()] * 20:
            ask(client)
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert counted(registry) == (40, 80)


def test_a_server_that_is_killed_loses_the_last_second_of_its_usage_at_most(tiny_t5: Path, registry: Path) -> None:
    with serving(tiny_t5, registry, "--workers", "1") as server:
        answered = ask_until_stored(server, registry, num_requests=100)
        killed_at = time.monotonic()
        server.process.kill()
        server.process.wait(60)
    stored, rows = counted(registry)
    # a second between two flushes, and another for a machine that is busy
    due = sum(at < killed_at - 2 for at in answered)
    assert 100 <= due <= stored <= len(answered)
    assert rows == 2 * stored


def ask_until_stored(server: WorkersServer, registry: Path, *, num_requests: int) -> list[float]:
    """Ask without a pause for three seconds after so many requests are stored; when each was answered."""
    answered: list[float] = []
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        for _ in range(num_requests):
            ask(client)
            answered.append(time.monotonic())
        eventually(lambda: counted(registry)[0] >= num_requests, within_s=10)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            ask(client)
            answered.append(time.monotonic())
    return answered
