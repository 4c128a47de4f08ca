"""The plan of a workload: replicas, cores, memory, expected latency, and the values of the Helm chart."""

import math
from dataclasses import dataclass

import numpy as np

from service.settings import Settings
from sizing.coefficients import Coefficients, Precision
from sizing.errors import InvalidWorkload, Unreachable
from sizing.latency import Latency, ReplicaCosts, RequestShape, latency

MiB = 1 << 20
MAX_LOAD = 0.7
"""Share of the capacity that replicas are planned for: at 0.7 the 99th percentile is about three times the idle one."""
_MEMORY_MARGIN = 1.25
_TEMPORARY_BYTES = 192 * MiB
"""Files in memory that the chart permits a pod, which count towards its limit."""
_ROUND_BYTES = 256 * MiB
_MAX_CPUS_PER_REPLICA = 64
_DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The requests of the busiest minute."""

    tasks: int
    requests_per_s: float
    text_tokens: float
    """Mean tokens of a rendered text, without the prompt."""
    rows: int = 1
    """Texts per request."""
    virtual_tokens: int = 10
    """Tokens of a prompt."""
    versions: int = 2
    """Versions of each task that the registry keeps."""

    def __post_init__(self) -> None:
        bounds = {"tasks": 1, "rows": 1, "virtual_tokens": 0, "versions": 1}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise InvalidWorkload(f"{name} is {getattr(self, name)}, expected at least {least}")
        for name in ("requests_per_s", "text_tokens"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidWorkload(f"{name} is {value:g}, expected a number above 0")

    @property
    def shape(self) -> RequestShape:
        """The rows and tokens of a request."""
        tokens = self.text_tokens + self.virtual_tokens
        return RequestShape(rows=self.rows, tokens=tokens, fixed_tokens=self.virtual_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Limits that the replicas must keep, and the make of each."""

    precision: Precision = "fp32"
    cores: int
    """Per replica, each with a thread of the model."""
    max_load: float = MAX_LOAD
    """Largest share of the capacity of the replicas without the spare ones."""
    p99_s: float | None = None
    """Largest 99th percentile of a request's latency, without the spare replicas; None for any."""
    spare: int = 1
    """Replicas that may fail at once."""
    resident: int | None = None
    """Adapters that each replica keeps in memory; None for all, up to the server's default limit."""

    def __post_init__(self) -> None:
        if not 0 < self.max_load < 1:
            raise InvalidWorkload(f"max_load is {self.max_load:g}, expected above 0 and below 1")
        if not 1 <= self.cores <= _MAX_CPUS_PER_REPLICA:
            raise InvalidWorkload(f"cores is {self.cores}, expected 1 to {_MAX_CPUS_PER_REPLICA}")
        if self.spare < 0:
            raise InvalidWorkload(f"spare is {self.spare}, expected at least 0")
        if self.p99_s is not None and self.p99_s <= 0:
            raise InvalidWorkload(f"p99_s is {self.p99_s:g}, expected a number above 0")
        if self.resident is not None and self.resident < 1:
            raise InvalidWorkload(f"resident is {self.resident}, expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a replica and of the registry."""

    server_bytes: int
    adapters_bytes: int
    """All adapters that a replica keeps."""
    limit_bytes: int
    """Memory limit of a pod: both, with a margin and the files in memory."""
    registry_bytes: int
    resident: int
    """Adapters that a replica keeps in memory."""
    cold_share: float
    """Share of the requests that load their adapter first, if tasks are chosen by Zipf's law."""

    @property
    def replica_bytes(self) -> int:
        return self.server_bytes + self.adapters_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """Values of `autoscaling` in the chart."""

    queue_tokens: int
    """Queued tokens per replica at the largest load, in the mean: the autoscaler holds the replicas there."""
    refusals_per_s: float
    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Replicas for a workload, and what to expect of them."""

    precision: Precision
    cores: int
    capacity: float
    """Requests per second of one replica that is never idle."""
    replicas: int
    """With the spare ones."""
    spare: int
    load: float
    """Share of the capacity with all replicas."""
    load_without_spare: float
    all_up: Latency
    without_spare: Latency
    memory: Memory
    autoscaling: Autoscaling
    full_queue_s: float
    """Wait in a full queue; beyond it requests are refused."""
    settings: dict[str, int]
    """Settings of the server that the workload needs and that are not the defaults."""
    extrapolated: bool
    """Whether the number of cores was not measured."""

    @property
    def total_cores(self) -> int:
        return self.replicas * self.cores

    @property
    def total_bytes(self) -> int:
        """Memory limits of all replicas together."""
        return self.replicas * self.memory.limit_bytes


def plan(workload: Workload, target: Target, coefficients: Coefficients, *, seed: int = 0) -> Plan:
    """Plan the replicas of a workload.

    Raises:
        NotMeasured: the coefficients do not cover the precision or the cores
        Unreachable: the 99th percentile is above the target with any number of replicas
    """
    batch = coefficients.batch_time(target.precision, target.cores)
    costs = ReplicaCosts(
        batch=batch,
        request_s=coefficients.request_s + workload.rows * coefficients.request_row_s,
        overhead_s=coefficients.overhead_s,
        max_batch_tokens=_DEFAULTS["max_batch_tokens"],
    )
    shape, rate = workload.shape, workload.requests_per_s
    capacity = costs.capacity(shape)
    needed = _enough(costs, workload, target, math.ceil(rate / (target.max_load * capacity)), seed)
    replicas = needed + target.spare
    at_largest_load = latency(costs, shape, requests_per_s=target.max_load * capacity, seed=seed)
    memory = memory_of(workload, target, coefficients)
    return Plan(
        precision=target.precision,
        cores=target.cores,
        capacity=capacity,
        replicas=replicas,
        spare=target.spare,
        load=rate / replicas / capacity,
        load_without_spare=rate / needed / capacity,
        all_up=latency(costs, shape, requests_per_s=rate / replicas, seed=seed),
        without_spare=latency(costs, shape, requests_per_s=rate / needed, seed=seed),
        memory=memory,
        autoscaling=Autoscaling(
            queue_tokens=max(1, round(at_largest_load.queue_tokens)),
            refusals_per_s=0.1,
            min_replicas=min(replicas, 1 + target.spare),
            max_replicas=2 * replicas,
        ),
        full_queue_s=_DEFAULTS["max_queue_tokens"] / (capacity * shape.request_tokens),
        settings=_settings(workload, memory, coefficients),
        extrapolated=target.cores not in coefficients.threads_of(target.precision),
    )


def _enough(costs: ReplicaCosts, workload: Workload, target: Target, fewest: int, seed: int) -> int:
    """Return the fewest replicas, at least `fewest`, whose 99th percentile is within the target."""
    if target.p99_s is None:
        return fewest

    def p99_s(replicas: float) -> float:
        rate = workload.requests_per_s / replicas
        return latency(costs, workload.shape, requests_per_s=rate, seed=seed).p99_s

    idle_s = p99_s(1e6 * fewest)
    if idle_s > target.p99_s:
        raise Unreachable(
            f"the 99th percentile of a replica without load is {1_000 * idle_s:.0f} ms, above the target of "
            f"{1_000 * target.p99_s:.0f} ms; expected a larger target, shorter texts, more cores per replica, or a "
            "faster precision"
        )
    low, high = fewest, fewest
    while p99_s(high) > target.p99_s:
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if p99_s(middle) <= target.p99_s else (middle + 1, high)
    return high


def memory_of(workload: Workload, target: Target, coefficients: Coefficients) -> Memory:
    """Return the bytes of a replica and of the registry."""
    resident = min(workload.tasks, target.resident or _DEFAULTS["max_loaded_adapters"])
    adapters_bytes = resident * coefficients.adapter_bytes
    used = _MEMORY_MARGIN * (coefficients.server_bytes + adapters_bytes) + _TEMPORARY_BYTES
    return Memory(
        server_bytes=coefficients.server_bytes,
        adapters_bytes=adapters_bytes,
        limit_bytes=_ROUND_BYTES * math.ceil(used / _ROUND_BYTES),
        registry_bytes=workload.tasks * workload.versions * coefficients.version_bytes,
        resident=resident,
        cold_share=cold_share(workload.tasks, resident),
    )


def cold_share(tasks: int, resident: int) -> float:
    """Return the share of requests beyond the `resident` most popular of `tasks`, by Zipf's law with exponent 1.

    A replica drops the least recently used adapters, which keeps a little fewer of the popular ones than this.
    """
    if resident >= tasks:
        return 0.0
    weights = 1 / np.arange(1, tasks + 1, dtype=np.float64)
    return float(weights[resident:].sum() / weights.sum())


def _settings(workload: Workload, memory: Memory, coefficients: Coefficients) -> dict[str, int]:
    settings: dict[str, int] = {}
    if memory.resident != min(workload.tasks, _DEFAULTS["max_loaded_adapters"]):
        settings["max_loaded_adapters"] = memory.resident
    prompts = memory.resident * workload.virtual_tokens * coefficients.origin.width * 4  # float32
    if prompts > _DEFAULTS["prompt_table_bytes"]:
        settings["prompt_table_bytes"] = 64 * MiB * math.ceil(prompts / (64 * MiB))
    return settings


def chart_values(plan: Plan) -> dict[str, object]:
    """Return the values of `deploy/chart` for a plan."""
    memory = f"{plan.memory.limit_bytes // MiB}Mi"
    requested = f"{math.ceil(plan.memory.replica_bytes / MiB)}Mi"
    settings: dict[str, object] = {**plan.settings, "precision": plan.precision}
    cpu = str(plan.cores)
    return {
        "replicas": plan.replicas,
        "resources": {"requests": {"cpu": cpu, "memory": requested}, "limits": {"cpu": cpu, "memory": memory}},
        "settings": settings,
        "autoscaling": {
            "minReplicas": plan.autoscaling.min_replicas,
            "maxReplicas": plan.autoscaling.max_replicas,
            "queueTokens": plan.autoscaling.queue_tokens,
            "refusalsPerS": plan.autoscaling.refusals_per_s,
        },
    }
