"""Everything a running server is made of, built from its settings in one place and taken down in the reverse order."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import structlog
import torch

from adapters import DEFAULT_TENANT, Registry, Resolution
from adapters.bundle import bundled_adapters
from adapters.files import from_files
from adapters.registry.opening import open_registry
from adapters.storage.opening import open_storage
from backbone import Backbone, load
from service.catalog.adapter_cache import AdapterCache, Prefetch
from service.catalog.catalog import Catalog
from service.catalog.instrumented import InstrumentedRegistry, RegistryCall
from service.catalog.sync import CatalogSync
from service.counters.buffer import CounterBuffer
from service.counters.opening import open_counter_store
from service.engine.engine import Engine
from service.engine.fault_isolation import FaultIsolation
from service.engine.self_test import SelfTest, run_self_test, warm_up
from service.engine.watchdog import Watchdog
from service.gauges import register_gauges
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import Classification
from service.inference.result_cache import ResultCache
from service.monitoring.drift_monitor import DriftMonitor
from service.monitoring.shadow import ShadowRunner
from service.releases.aliases import Aliases
from service.releases.publisher import Publisher
from service.releases.rollouts import Rollouts
from service.releases.storage_quota import StorageQuota
from service.releases.writer import RegistryWriter
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.request_record import current_record
from service.tenancy.account_cache import AccountCache
from service.tenancy.accounts import Accounts, ensure_admin_key, open_accounts
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import open_rate_counter

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts that routes use."""

    settings: Settings
    backbone: Backbone
    registry: Registry
    catalog: Catalog
    follower: CatalogSync
    accounts: Accounts
    directory: AccountCache
    quotas: Quotas
    adapters: AdapterCache
    prefetch: Prefetch
    results: ResultCache
    admission: Admission
    engine: Engine
    watchdog: Watchdog
    classifier: Classifier
    publisher: Publisher
    aliases: Aliases
    rollouts: Rollouts
    shadowing: ShadowRunner
    tally: CounterBuffer
    drift: DriftMonitor


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Start the engine and the follower; stop them at the end, what was accepted answered first.

    Raises:
        RegistryUnavailable: the registry cannot be read
    """
    runtime.engine.start()
    runtime.watchdog.start()
    try:
        await runtime.follower.start()
        await runtime.directory.start()
        runtime.tally.start()
        runtime.drift.start()
        gc.freeze()  # torch's and transformers' half million objects: each full collection stopped the server for 0.2 s
        _log.info("started", tasks=len(runtime.catalog), backbone=runtime.backbone.identity.id)
        yield
    finally:
        gc.unfreeze()
        await runtime.drift.stop()
        await runtime.directory.stop()
        await runtime.quotas.close()
        await runtime.follower.stop()
        await runtime.prefetch.stop()
        await runtime.shadowing.stop()
        runtime.adapters.stop()
        await asyncio.to_thread(runtime.engine.stop)
        await runtime.watchdog.stop()  # after the engine: until then it sees to it that a stuck engine can be stopped
        await runtime.tally.stop()  # whatever was answered is counted by now


def build_runtime(settings: Settings, metrics: Metrics, *, on_model_failure: Callable[[str], None]) -> Runtime:
    """Load the backbone and open the registry; nothing runs yet.

    Args:
        settings: where everything is, and how much of it there may be
        metrics: told of batches and predictions
        on_model_failure: told why the model thread is gone for good

    Raises:
        backbone.BackboneError: the backbone cannot be loaded
        RegistryUnavailable: the registry cannot be opened
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    storage = open_storage(settings.registry, wait_s=settings.registry_wait_s)
    registry = InstrumentedRegistry(open_registry(storage), lambda call: _called(metrics, call))
    backbone = load(
        settings.backbone,
        cache_dir=settings.cache_dir,
        revision=settings.revision,
        offline=settings.offline,
        device=settings.device,
        precision=settings.precision,
        share_weights=settings.workers > 1,
        say=lambda line: _log.info("backbone", message=line),
    )
    catalog = Catalog()
    adapters = AdapterCache(
        registry,
        backbone,
        max_adapters=settings.max_loaded_adapters,
        force_precision=settings.force_precision,
    )
    prefetch = Prefetch(adapters)
    follower = CatalogSync(registry, catalog, poll_interval_s=settings.poll_interval_s, announce=prefetch.announce)
    accounts = open_accounts(storage)
    ensure_admin_key(accounts, settings.admin_key, settings.admin_key_file)
    directory = AccountCache(accounts.store, poll_interval_s=settings.poll_interval_s)
    quotas = Quotas(directory.tenant, open_rate_counter(storage))
    admission = Admission(max_rows=settings.max_queue_rows, max_tokens=settings.max_queue_tokens)
    engine = Engine(
        backbone,
        max_batch_tokens=settings.max_batch_tokens,
        bank_bytes=settings.bank_bytes,
        trip_after=settings.trip_after_failures,
        cool_down_s=settings.trip_cool_down_s,
        prepare=lambda containment: _prepare(containment, backbone, max_batch_tokens=settings.max_batch_tokens),
        on_batch=metrics.model.batch_done,
        check_after_s=settings.check_after_s,
        ready_within_s=settings.ready_within_s,
    )
    results = ResultCache(max_bytes=settings.result_cache_bytes)
    watchdog = Watchdog(engine, stuck_after_s=settings.stuck_after_s, on_failure=on_model_failure)
    answering = InferencePipeline(
        backbone, engine, admission, results=results, max_text_chars=settings.max_text_chars, charge=quotas.charge
    )
    tally = CounterBuffer(open_counter_store(storage))
    shadowing = ShadowRunner(
        answering,
        adapters,
        Admission(max_rows=settings.max_queue_rows // 4 or 1, max_tokens=settings.max_queue_tokens // 4 or 1),
        count=lambda key, by: tally.count(*key, by=by),
        on_rows=metrics.shadows.compared,
    )
    drift = DriftMonitor(tally, registry, catalog)
    classifier = Classifier(
        answering,
        catalog,
        adapters,
        weight=quotas.weight,
        shadow=shadowing.offer,
        on_resolved=_resolved,
        on_answered=lambda answered: _answered(metrics, drift, answered),
    )
    limits = StorageQuota(registry, catalog, follower, directory.tenant)
    writer = RegistryWriter(registry, follower)
    publisher = Publisher(writer, adapters, classifier, limits)
    if settings.bundled:
        publish_bundled(registry, backbone)
    runtime = Runtime(
        settings,
        backbone,
        registry,
        catalog,
        follower,
        accounts,
        directory,
        quotas,
        adapters,
        prefetch,
        results,
        admission,
        engine,
        watchdog,
        classifier,
        publisher,
        Aliases(writer, catalog),
        Rollouts(writer, catalog),
        shadowing,
        tally,
        drift,
    )
    register_gauges(metrics, runtime)
    return runtime


def _prepare(containment: FaultIsolation, backbone: Backbone, *, max_batch_tokens: int) -> SelfTest:
    """What the model thread does before its first batch."""
    warm_up(containment, backbone, max_batch_tokens=max_batch_tokens)
    found = run_self_test(containment.forward, backbone)
    log = _log.info if found.passed else _log.critical
    log("self_test", **asdict(found), bit_identical=found.bit_identical, passed=found.passed)
    return found


def publish_bundled(registry: Registry, backbone: Backbone) -> None:
    """Publish the bundled adapters into a registry that has never held anything, where they fit the backbone."""
    if registry.changes(limit=1):
        return
    for task, files in bundled_adapters().items():
        trained_for = from_files(files).manifest.backbone
        if trained_for.fingerprint == backbone.identity.fingerprint:
            registry.publish(DEFAULT_TENANT, task, files, actor="bundled")
        else:
            _log.info("bundled_adapter_skipped", task=task, reason=f"it was trained for {trained_for.id}")


def _called(metrics: Metrics, call: RegistryCall) -> None:
    metrics.registry_calls.called(call)
    current_record().calls.append(call)


def _resolved(resolution: Resolution) -> None:
    current_record().resolved.append(resolution)


def _answered(metrics: Metrics, drift: DriftMonitor, answered: Classification) -> None:
    metrics.classified(answered)
    drift.answered(answered)
    current_record().answered.append(answered)
