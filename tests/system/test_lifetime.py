"""The server's components stop in reverse order, and one that fails to stop does not keep the others running."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from service.counters.store import Key
from service.runtime import Runtime, build_runtime
from service.settings import Settings

STOPPED: dict[str, Callable[[Runtime], tuple[object, str]]] = {
    "drift": lambda runtime: (runtime.monitoring.drift, "stop"),
    "account_cache": lambda runtime: (runtime.tenancy.account_cache, "stop"),
    "quotas": lambda runtime: (runtime.tenancy.quotas, "close"),
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
    return lambda: build_runtime(settings, shared=None, on_model_failure=lambda reason: None)


def counts(runtime: Runtime) -> dict[Key, float]:
    """Usage that reached the store."""
    return runtime.monitoring.counters._ledger.read("usage")


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
