"""One start on a filled registry, in a process of its own: prints its figures as JSON."""

import asyncio
import json
import os
import random
import statistics
import sys
import time

from adapters import Ref
from adapters.registry.opening import open_registry
from backbone import load
from benchmarks.adapters.memory import resident_bytes
from service.catalog.adapter_cache import AdapterCache
from service.catalog.catalog import Catalog
from service.catalog.history import HistoryReader
from service.catalog.precisions import Precisions
from service.catalog.sync import CatalogSync
from service.settings import default_cache_dir

_LOOKUPS = 10_000
TENANTS = [f"tenant-{number:03d}" for number in range(20)]
"""Tenants that `registry_fill` makes at least."""
_TENANT = TENANTS[0]
_POLL_INTERVAL_S = 60.0


async def start(place: str, num_resident: int) -> dict[str, float]:
    """Start a catalog; with adapters to load, measure lookups too."""
    registry, catalog = open_registry(place), Catalog()
    before, began = resident_bytes(os.getpid()), time.monotonic()
    sync = CatalogSync(registry, catalog, poll_interval_s=_POLL_INTERVAL_S)
    await sync.start()
    figures = {"start_s": time.monotonic() - began}
    began = time.monotonic()
    await HistoryReader(registry, catalog).read()
    figures["history_s"] = time.monotonic() - began
    figures["bytes_each"] = (resident_bytes(os.getpid()) - before) / len(catalog)
    began = time.monotonic()
    infos = catalog.tasks(_TENANT)
    figures["list_ms"] = (time.monotonic() - began) * 1_000
    if num_resident:
        refs = [Ref.parse(info.task) for info in random.Random(0).choices(infos, k=_LOOKUPS)]
        figures["lookup_us"] = statistics.median(_lookup_s(catalog, ref) for ref in refs) * 1e6
        backbone = load("embedded", cache_dir=default_cache_dir())
        cache = AdapterCache(registry, Precisions(backbone), max_adapters=num_resident)
        all_infos = (info for tenant in TENANTS for info in catalog.tasks(tenant))
        digests = dict.fromkeys(version.digest for info in all_infos for version in info.versions)
        figures |= await _loads(cache, list(digests), num_resident)
        cache.stop()
    await sync.stop()
    return figures


def _lookup_s(catalog: Catalog, ref: Ref) -> float:
    began = time.perf_counter()
    catalog.resolve(_TENANT, ref)
    return time.perf_counter() - began


async def _loads(cache: AdapterCache, digests: list[str], num_resident: int) -> dict[str, float]:
    """Load adapters until the cache is full, then measure lookups of loaded adapters, and of others."""
    resident, others = digests[:num_resident], digests[num_resident:]
    for digest in resident:
        await cache.get(digest)
    assert len(cache) == num_resident
    loaded = [await _get_s(cache, digest) for digest in resident]
    cold = [await _get_s(cache, digest) for digest in others]
    assert len(cache) == num_resident
    return {"resident_us": statistics.median(loaded) * 1e6, "cold_ms": statistics.median(cold) * 1e3}


async def _get_s(cache: AdapterCache, digest: str) -> float:
    began = time.perf_counter()
    await cache.get(digest)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(asyncio.run(start(sys.argv[1], int(sys.argv[2])))))
