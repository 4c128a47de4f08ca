"""Builds the server's components and manages their lifetime."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from adapters import Resolution
from adapters.registry.opening import open_registry
from adapters.registry.protocol import RegistryLimits
from adapters.storage.opening import Storage, open_storage
from adapters.storage.sqlite import SqliteFile
from backbone import Backbone
from service.catalog.build import RegistryGroup, build_registry
from service.catalog.instrumented import RegistryCall
from service.catalog.precisions import Precisions
from service.feedback.build import FeedbackGroup, build_feedback
from service.inference.build import InferenceGroup, build_inference, tested
from service.inference.classifier import Classifier
from service.inference.predictions import Classification
from service.jobs.build import JobsGroup, build_jobs
from service.loading import load_for_serving
from service.monitoring.build import MonitoringGroup, build_monitoring
from service.releases.build import ReleasesGroup, build_releases
from service.releases.bundled import publish_bundled, publish_listed
from service.settings import Settings
from service.telemetry.build import TelemetryGroup, build_telemetry
from service.telemetry.multiprocess import SharedFolder
from service.telemetry.request_record import current_record
from service.tenancy.build import TenancyGroup, build_tenancy

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The components of one server, grouped by package."""

    settings: Settings
    storage: Storage
    backbone: Backbone
    tenancy: TenancyGroup
    telemetry: TelemetryGroup
    registry: RegistryGroup
    inference: InferenceGroup
    feedback: FeedbackGroup
    monitoring: MonitoringGroup
    classifier: Classifier
    releases: ReleasesGroup
    jobs: JobsGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start every component; at the end stop them in reverse order, accepted requests answered first.

        A component that fails to stop does not keep the others from stopping; its error is raised at the end.

        Raises:
            RegistryUnavailable: the registry cannot be read
        """
        async with AsyncExitStack() as stack:
            if self.telemetry.tracing is not None:
                stack.push_async_callback(asyncio.to_thread, self.telemetry.tracing.stop)
            await _start(stack, self.telemetry.metrics)
            # stopped after all that counts, so that the last flush has everything
            await _start(stack, self.monitoring.counters)
            await _start(stack, self.feedback.answers)
            # stopped after the engine: it frees a stop that waits for a stuck model thread
            await _start(stack, self.inference.watchdog)
            self.inference.engine.start()
            stack.push_async_callback(asyncio.to_thread, self.inference.engine.stop)
            stack.callback(self.registry.adapters.stop)
            stack.push_async_callback(self.monitoring.shadow.stop)
            stack.push_async_callback(self.registry.prefetch.stop)
            await _start(stack, self.registry.sync)
            await _start(stack, self.releases.log_trimmer)
            stack.push_async_callback(self.tenancy.quotas.close)
            await _start(stack, self.tenancy.account_cache)
            await _start(stack, self.tenancy.refusals)
            await _start(stack, self.tenancy.audit_trimmer)
            await _start(stack, self.feedback.sweeper)
            await _start(stack, self.jobs.sweeper)
            await _start(stack, self.monitoring.drift)
            # torch's and transformers' half million objects: each full collection stopped the server for 0.2 s
            gc.freeze()
            stack.callback(gc.unfreeze)
            _log.info("started", tasks=len(self.registry.catalog), backbone=self.backbone.identity.id)
            yield


class _Component(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def _start(stack: AsyncExitStack, component: _Component) -> None:
    # pushed first: a start that fails half-way is cleaned up too
    stack.push_async_callback(component.stop)
    await component.start()


def build_runtime(
    settings: Settings,
    loading: Future[Backbone],
    *,
    shared: SharedFolder | None,
    on_model_failure: Callable[[str], None],
) -> Runtime:
    """Open the registry and wait for the backbone; nothing runs yet.

    Args:
        settings: everything that can be configured
        loading: the backbone
        shared: where metrics are kept if this process is one of several workers
        on_model_failure: receives the reason why the model thread is gone for good

    Raises:
        backbone.BackboneError: the backbone cannot be loaded
        RegistryUnavailable: the registry cannot be opened
    """
    storage = open_storage(settings.registry, wait_s=settings.registry_wait_s)
    limits = RegistryLimits(aliases_per_task=settings.max_aliases_per_task, task_names=settings.max_task_names)
    store = open_registry(storage, limits)
    if isinstance(storage, SqliteFile) and storage.write_fault is not None:
        _log.warning("registry_read_only", reason=storage.write_fault)
    if isinstance(storage, SqliteFile) and storage.open_to_others:
        _log.warning("registry_open_to_others", todo=storage.open_to_others)
    backbone = loading.result()
    precisions = Precisions(
        backbone,
        load_fp32=lambda: tested(load_for_serving(settings, "fp32")),
        force=settings.force_precision,
    )

    def pause() -> Callable[[], None]:
        return inference.engine.activity.pause()

    tenancy = build_tenancy(
        settings,
        storage,
        pause=pause,
        workers_folder=None if shared is None else shared.path,
    )
    telemetry = build_telemetry(settings, shared, is_known_tenant=tenancy.account_cache.knows)
    metrics = telemetry.metrics

    def on_call(call: RegistryCall) -> None:
        metrics.registry_calls.called(call)
        current_record().calls.append(call)

    def on_resolved(resolution: Resolution) -> None:
        current_record().resolved.append(resolution)

    def on_answered(answered: Classification) -> None:
        metrics.classified(answered)
        monitoring.drift.answered(answered)
        current_record().answered.append(answered)

    registry = build_registry(settings, store, precisions, on_call=on_call)
    inference = build_inference(
        settings,
        backbone,
        weight=tenancy.quotas.weight,
        charge=tenancy.quotas.charge,
        charge_more=tenancy.quotas.charge_more,
        on_batch=metrics.model.batch_done,
        on_model_failure=on_model_failure,
    )
    feedback = build_feedback(settings, storage, registry, tenancy.account_cache, count=metrics.feedback.count)
    monitoring = build_monitoring(
        settings,
        storage,
        registry,
        inference.pipeline,
        on_shadow_rows=metrics.shadows.compared,
        on_shadow_answers=feedback.answers.compared,
    )
    classifier = Classifier(
        inference.pipeline,
        registry.catalog,
        registry.adapters,
        shadow=monitoring.shadow.offer,
        on_resolved=on_resolved,
        on_answered=on_answered,
        keep=feedback.answers.answered,
    )
    publish_listed(registry.store, registry.adapters, settings.start_adapters)
    if settings.bundled:
        publish_bundled(registry.store, backbone, num_listed=len(settings.start_adapters))
    return Runtime(
        settings=settings,
        storage=storage,
        backbone=backbone,
        tenancy=tenancy,
        telemetry=telemetry,
        registry=registry,
        inference=inference,
        feedback=feedback,
        monitoring=monitoring,
        classifier=classifier,
        releases=build_releases(
            settings,
            registry,
            classifier,
            tenancy.account_cache,
            pipeline=inference.pipeline,
            feedback=feedback.feedback,
            pause=pause,
        ),
        jobs=build_jobs(
            settings,
            storage,
            registry,
            tenancy.account_cache,
            feedback=feedback.feedback,
            backbone=backbone,
        ),
    )
