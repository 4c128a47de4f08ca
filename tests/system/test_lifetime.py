"""The server's components stop in reverse order, and one that fails to stop does not keep the others running."""

import asyncio
import sys
import time
from collections.abc import Callable
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
from service.counters.store import Key
from service.loading import begin_loading
from service.monitoring.usage import USAGE, usage_rows
from service.runtime import Runtime, build_runtime
from service.settings import Settings

STOPPED: dict[str, Callable[[Runtime], tuple[object, str]]] = {
    "drift": lambda runtime: (runtime.monitoring.drift, "stop"),
    "account_cache": lambda runtime: (runtime.tenancy.account_cache, "stop"),
    "quotas": lambda runtime: (runtime.tenancy.quotas, "close"),
    "log_trimmer": lambda runtime: (runtime.releases.log_trimmer, "stop"),
    "audit_trimmer": lambda runtime: (runtime.tenancy.audit_trimmer, "stop"),
    "sync": lambda runtime: (runtime.registry.sync, "stop"),
    "prefetch": lambda runtime: (runtime.registry.prefetch, "stop"),
    "shadow": lambda runtime: (runtime.monitoring.shadow, "stop"),
    "adapters": lambda runtime: (runtime.registry.adapters, "stop"),
    "engine": lambda runtime: (runtime.inference.engine, "stop"),
    "watchdog": lambda runtime: (runtime.inference.watchdog, "stop"),
    "metrics": lambda runtime: (runtime.telemetry.metrics, "stop"),
}


@pytest.fixture
def build(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> Callable[[], Runtime]:
    settings = Settings(
        backbone=str(tiny_t5), cache_dir=cache_dir, registry=str(tmp_path / "registry.sqlite"), bundled=False
    )
    return lambda: build_runtime(settings, begin_loading(settings), shared=None, on_model_failure=lambda reason: None)


def counts(runtime: Runtime) -> dict[Key, float]:
    """Usage that reached the store."""
    return runtime.monitoring.counters._store.read("usage")


@pytest.mark.parametrize("name", STOPPED)
def test_a_component_that_fails_to_stop_leaves_usage_flushed_and_the_engine_stopped(
    build: Callable[[], Runtime], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    runtime = build()
    component, method = STOPPED[name](runtime)
    stop = getattr(component, method)
    is_async = asyncio.iscoroutinefunction(stop)

    async def fail() -> None:
        await stop()
        raise RuntimeError(f"{name} cannot stop")

    def fail_blocking() -> None:
        stop()
        raise RuntimeError(f"{name} cannot stop")

    monkeypatch.setattr(component, method, fail if is_async else fail_blocking)

    async def live() -> None:
        async with runtime.running():
            runtime.monitoring.counters.count("usage", "acme", "sst2", "2026-01-01", "rows", by=3)

    with pytest.raises(RuntimeError, match=f"{name} cannot stop"):
        asyncio.run(live())
    assert counts(runtime) == {("usage", "acme", "sst2", "2026-01-01", "rows"): 3}
    assert not runtime.inference.engine.stats().alive


def test_components_stop_in_the_reverse_of_the_order_in_which_they_start(
    build: Callable[[], Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = build()
    order: list[str] = []
    parts = {
        "counters": runtime.monitoring.counters,
        "watchdog": runtime.inference.watchdog,
        "sync": runtime.registry.sync,
        "log_trimmer": runtime.releases.log_trimmer,
        "account_cache": runtime.tenancy.account_cache,
        "drift": runtime.monitoring.drift,
    }

    def noted(word: str, call: Callable[[], object]) -> Callable[[], object]:
        async def noting() -> None:
            order.append(word)
            await call()  # type: ignore[misc]

        return noting

    for name, part in parts.items():
        for method in ("start", "stop"):
            monkeypatch.setattr(part, method, noted(f"{method} {name}", getattr(part, method)))

    async def live() -> None:
        async with runtime.running():
            pass

    asyncio.run(live())
    started = [word.removeprefix("start ") for word in order[: len(parts)]]
    stopped = [word.removeprefix("stop ") for word in order[len(parts) :]]
    assert started == list(parts)
    assert stopped == started[::-1]


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


@pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")
def test_a_server_that_is_told_to_end_has_stored_all_its_usage(tiny_t5: Path, registry: Path) -> None:
    with serving(tiny_t5, registry) as server, server.client_of_each() as clients:
        for client in [*clients.values()] * 20:
            ask(client)
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert counted(registry) == (40, 80)


@pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")
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
