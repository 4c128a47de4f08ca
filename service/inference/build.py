"""The path from a text to label scores: admission, result cache, engine and its watchdog."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import structlog

from backbone import Backbone
from service.engine.engine import Engine
from service.engine.fault_isolation import FaultIsolation
from service.engine.model_runner import Forward, ModelRunner
from service.engine.self_test import run_self_test, warm_up
from service.engine.types import BatchStats, SelfTest
from service.engine.watchdog import Watchdog
from service.errors import NotReady
from service.inference.admission import Admission
from service.inference.pipeline import InferencePipeline
from service.inference.result_cache import ResultCache
from service.settings import Settings

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class InferenceGroup:
    """Components that turn texts into scores."""

    admission: Admission
    result_cache: ResultCache
    engine: Engine
    watchdog: Watchdog
    pipeline: InferencePipeline


def build_inference(
    settings: Settings,
    backbone: Backbone,
    *,
    weight: Callable[[str], float],
    charge: Callable[[str, int], Awaitable[None]],
    charge_more: Callable[[str, int], Awaitable[None]],
    on_batch: Callable[[BatchStats], None],
    on_model_failure: Callable[[str], None],
) -> InferenceGroup:
    """Build the engine and the components before it; the model thread does not run yet.

    Args:
        settings: sizes and time limits
        backbone: the frozen model
        weight: returns a tenant's weight in admission and fair queuing
        charge: charges a tenant for tokens before the model sees them; raises to refuse
        charge_more: charges a tenant for tokens beyond those afterwards; never refuses
        on_batch: receives the numbers of each batch, on the model thread
        on_model_failure: receives the reason why the model thread is gone for good
    """
    engine = Engine(
        backbone,
        max_batch_tokens=settings.max_batch_tokens,
        prompt_table_bytes=settings.prompt_table_bytes,
        breaker_failures=settings.breaker_failures,
        breaker_reset_s=settings.breaker_reset_s,
        prepare=lambda isolation: _prepare(isolation, backbone, max_batch_tokens=settings.max_batch_tokens),
        on_batch=on_batch,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        readiness_max_age_s=settings.readiness_max_age_s,
    )
    admission = Admission(max_rows=settings.max_queue_rows, max_tokens=settings.max_queue_tokens)
    result_cache = ResultCache(max_bytes=settings.result_cache_bytes)
    pipeline = InferencePipeline(
        backbone,
        engine,
        admission,
        results=result_cache,
        max_text_chars=settings.max_text_chars,
        weight=weight,
        charge=charge,
        charge_more=charge_more,
    )
    watchdog = Watchdog(engine, forward_timeout_s=settings.forward_timeout_s, on_failure=on_model_failure)
    return InferenceGroup(
        admission=admission, result_cache=result_cache, engine=engine, watchdog=watchdog, pipeline=pipeline
    )


def tested(backbone: Backbone) -> Backbone:
    """Return a further backbone of the engine after its self-test.

    Raises:
        NotReady: the self-test failed
    """
    found = _self_test(ModelRunner(backbone, prompt_table_bytes=1), backbone)
    if not found.passed:
        raise NotReady(f"the self-test in {backbone.precision} failed: {found}")
    return backbone


def _prepare(isolation: FaultIsolation, backbone: Backbone, *, max_batch_tokens: int) -> SelfTest:
    """Warm up and run the self-test, on the model thread before its first batch."""
    warm_up(isolation, backbone, max_batch_tokens=max_batch_tokens)
    return _self_test(isolation.forward, backbone)


def _self_test(forward: Forward, backbone: Backbone) -> SelfTest:
    found = run_self_test(forward, backbone)
    log = _log.info if found.passed else _log.critical
    log(
        "self_test",
        precision=backbone.precision,
        **asdict(found),
        bit_identical=found.bit_identical,
        passed=found.passed,
    )
    return found
