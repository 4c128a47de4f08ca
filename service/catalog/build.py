"""The read side of the registry: its catalog, what keeps it current, and the adapters in memory."""

from collections.abc import Callable
from dataclasses import dataclass

from adapters import Registry
from service.catalog.adapter_cache import AdapterCache, Prefetch, RowLimits
from service.catalog.catalog import Catalog
from service.catalog.instrumented import RegistryCall, instrument
from service.catalog.precisions import Precisions
from service.catalog.sync import CatalogSync
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class RegistryGroup:
    """The registry, and this process's view of it."""

    store: Registry
    catalog: Catalog
    sync: CatalogSync
    adapters: AdapterCache
    prefetch: Prefetch
    precisions: Precisions


def build_registry(
    settings: Settings, registry: Registry, precisions: Precisions, *, on_call: Callable[[RegistryCall], None]
) -> RegistryGroup:
    """Build the view of an open registry; nothing is read yet.

    Args:
        settings: how many adapters are kept in memory, how often the change log is polled
        registry: where adapters are kept
        precisions: the backbone that adapters are loaded for, and its float32 form
        on_call: receives the duration and outcome of each call to the registry
    """
    store = instrument(registry, on_call)
    adapters = AdapterCache(
        store,
        precisions,
        max_adapters=settings.max_loaded_adapters,
        limits=RowLimits(settings.max_text_tokens, settings.max_trie_nodes),
    )
    prefetch = Prefetch(adapters)
    catalog = Catalog()
    sync = CatalogSync(store, catalog, poll_interval_s=settings.poll_interval_s, on_changes=prefetch.on_changes)
    return RegistryGroup(
        store=store, catalog=catalog, sync=sync, adapters=adapters, prefetch=prefetch, precisions=precisions
    )
