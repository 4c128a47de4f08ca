"""Counters, usage, drift and shadow versions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters.storage.opening import Storage
from service.catalog.build import RegistryGroup
from service.counters.buffer import CounterBuffer
from service.counters.build import build_counters
from service.inference.admission import Admission
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import Prediction, Shadowed
from service.monitoring.drift_monitor import DriftMonitor
from service.monitoring.live_traffic import LiveTraffic
from service.monitoring.shadow import ShadowRunner
from service.monitoring.usage import UsageMeter
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class MonitoringGroup:
    """Counts and comparisons of what is answered."""

    counters: CounterBuffer
    usage: UsageMeter
    live: LiveTraffic
    drift: DriftMonitor
    shadow: ShadowRunner


def build_monitoring(
    settings: Settings,
    storage: Storage,
    registry: RegistryGroup,
    pipeline: InferencePipeline,
    *,
    on_shadow_rows: Callable[[Mapping[str, float]], None],
    on_shadow_answers: Callable[[Shadowed, Sequence[Prediction]], None],
) -> MonitoringGroup:
    """Build the monitors over one buffer of counters; none runs yet.

    Args:
        settings: shadow versions may fill a quarter of the queue's limits
        storage: where counters are kept
        registry: where versions and their validation profiles are read
        pipeline: computes the answers of shadow versions
        on_shadow_rows: receives rows by outcome: agreed, flipped, dropped, failed
        on_shadow_answers: receives each compared request with the shadow's answers
    """
    counters = build_counters(storage)
    shadow = ShadowRunner(
        pipeline,
        registry.adapters,
        Admission(max_rows=settings.max_queue_rows // 4 or 1, max_tokens=settings.max_queue_tokens // 4 or 1),
        count=lambda key, by: counters.count(*key, by=by),
        on_rows=on_shadow_rows,
        on_answers=on_shadow_answers,
    )
    drift = DriftMonitor(counters, registry.store, registry.catalog)
    live = LiveTraffic()
    return MonitoringGroup(counters=counters, usage=UsageMeter(counters, live), live=live, drift=drift, shadow=shadow)
