"""The catalog of a server that starts: it serves at once, and knows the way back of aliases when the log is read."""

import asyncio
from pathlib import Path

import pytest
from support.adapters import make_adapter

from adapters import Registry
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.catalog.catalog import Catalog
from service.catalog.history import HistoryReader
from service.catalog.sync import CatalogSync
from service.errors import NotReady

KEY = ("acme", "sst2")


@pytest.fixture
def registry(tmp_path: Path, tiny: Backbone) -> Registry:
    """A registry whose alias has moved."""
    registry = open_registry(tmp_path / "registry.sqlite")
    for seed in range(3):
        registry.publish(*KEY, to_files(make_adapter(tiny, seed=seed, num_virtual_tokens=1)), actor="ann")
    return registry


def test_a_short_log_is_read_whole_at_the_start(registry: Registry) -> None:
    catalog = Catalog()

    async def start() -> None:
        sync = CatalogSync(registry, catalog, poll_interval_s=60)
        await sync.start()
        assert catalog.history.of(*KEY, "production") == (1, 2, 3)
        registry.set_alias(*KEY, "production", 1, actor="ann")
        await sync.refresh()
        assert catalog.history.of(*KEY, "production") == (1,)
        await sync.stop()

    asyncio.run(start())


def test_a_long_log_is_read_while_the_catalog_serves_and_is_written(
    monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    monkeypatch.setattr("service.catalog.history._PAGE", 2)
    catalog = Catalog()

    async def start() -> None:
        sync = CatalogSync(registry, catalog, poll_interval_s=60)
        await sync.start()
        assert catalog.task(*KEY).aliases == {"production": 3}
        with pytest.raises(NotReady, match="history of aliases is still being read"):
            _ = catalog.history
        registry.set_alias(*KEY, "best", 1, actor="ann")
        await sync.refresh()
        registry.set_alias(*KEY, "best", 2, actor="ann")  # in the log, not yet in the catalog
        await HistoryReader(registry, catalog).read()
        await sync.refresh()
        assert catalog.history.of(*KEY, "production") == (1, 2, 3)
        assert catalog.history.of(*KEY, "best") == (1, 2)
        await sync.stop()

    asyncio.run(start())


def test_a_history_whose_beginning_was_removed_meanwhile_is_read_again(
    monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    monkeypatch.setattr("service.catalog.history._PAGE", 7)
    for number in range(4):
        registry.set_alias(*KEY, "best", 1 + number % 2, actor="ann")
    registry.delete_alias(*KEY, "best", actor="ann")
    catalog = Catalog()
    catalog.restore(registry.snapshot())
    reader = HistoryReader(registry, catalog)

    async def read() -> None:
        await reader.read_page()  # with the alias that is removed below
        registry.trim_log(keep=1)
        catalog.apply(registry.changes(catalog.position))
        await reader.read()

    asyncio.run(read())
    assert catalog.history.of(*KEY, "best") == ()
    assert catalog.history.of(*KEY, "production") == (1, 2, 3)
