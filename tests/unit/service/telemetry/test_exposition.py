"""The metrics' text: what prometheus_client writes in one go, written family by family."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.telemetry.exposition import exposition

_OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = Counter("requests", 'with "quotes"\nand lines', ["route"], registry=registry)
    counter.labels("/\\x\n").inc(3)
    Gauge("depth", "a gauge", registry=registry).set(float("inf"))
    Histogram("seconds", "a histogram", ["kind"], registry=registry).labels("a").observe(0.3, {"trace_id": "abc"})
    return registry


def test_the_text_is_the_same_as_in_one_go(registry: CollectorRegistry):
    assert asyncio.run(exposition(registry, accept="text/plain")) == (
        generate_latest(registry),
        "text/plain; version=1.0.0; charset=utf-8",
    )
    text, media_type = asyncio.run(exposition(registry, accept=_OPENMETRICS))
    assert text == openmetrics.generate_latest(registry)
    assert media_type == openmetrics.CONTENT_TYPE_LATEST
    assert len(list(text_string_to_metric_families(text.decode()))) == 3


def test_an_empty_registry_has_an_empty_text():
    assert asyncio.run(exposition(CollectorRegistry(), accept=""))[0] == b""
    assert asyncio.run(exposition(CollectorRegistry(), accept=_OPENMETRICS))[0] == b"# EOF\n"


def test_other_tasks_run_between_two_families(registry: CollectorRegistry):
    async def count() -> int:
        rounds = 0

        async def others() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        await exposition(registry, accept="")
        other.cancel()
        return rounds

    assert asyncio.run(count()) >= 3
