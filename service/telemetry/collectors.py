"""Prometheus series of rows and batches, refusals, registry calls, feedback and shadow versions, and the buckets."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.catalog.instrumented import OPERATIONS, RegistryCall
from service.engine.types import BatchStats
from service.errors import ADMISSION_REASONS, AUTHENTICATION_REASONS, Forbidden, QueueFull, Unauthenticated
from service.feedback.answers import OUTCOMES as FEEDBACK_OUTCOMES
from service.feedback.answers import Outcome
from service.inference.predictions import Classification

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds of whole requests and batches."""
STAGE_BUCKETS = (0.0001, 0.0005, 0.001, 0.002, *LATENCY_BUCKETS)
"""Seconds of a request's stages."""
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS_BUCKETS = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
OUTCOMES = ("agreed", "flipped", "dropped", "failed")


class ModelMetrics:
    """Rows and model batches. `superpos_rows` equals the sum of the predictions in all answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        rows = partial(Histogram, registry=registry, buckets=_ROWS_BUCKETS)
        tokens = partial(Histogram, registry=registry, buckets=_TOKENS_BUCKETS)
        stage = partial(Histogram, registry=registry, buckets=STAGE_BUCKETS)
        latency = partial(Histogram, registry=registry, buckets=LATENCY_BUCKETS)
        self._rows = counter("superpos_rows", "Rows answered with a prediction")
        self._rows_truncated = counter("superpos_rows_truncated", "Rows cut to their task's token limit")
        self._rows_cached = counter("superpos_rows_cached", "Rows answered from the result cache")
        self._trips = counter("superpos_adapter_trips", "Times that the circuit breaker tripped an adapter")
        self._tokenize_seconds = stage("superpos_tokenize_duration_seconds", "Tokenizing a classified request's texts")
        self._queue_seconds = stage(
            "superpos_queue_duration_seconds", "A classified request's wait for its first batch"
        )
        self._batch_rows = rows("superpos_batch_rows", "Rows per model batch")
        self._batch_tokens = tokens(
            "superpos_batch_tokens", "Tokens per model batch: prompts, texts, further trie nodes"
        )
        self._batch_adapters = rows("superpos_batch_adapters", "Distinct adapters per model batch")
        self._batch_seconds = latency("superpos_batch_duration_seconds", "Duration of a model batch")

    def classified(self, answered: Classification) -> None:
        """Count a request's predictions, and observe the duration of its stages."""
        rows = answered.predictions
        self._rows.inc(len(rows))
        self._rows_truncated.inc(sum(row.truncated for row in rows))
        self._rows_cached.inc(sum(row.cached for row in rows))
        self._tokenize_seconds.observe(answered.stages.tokenize_s)
        self._queue_seconds.observe(answered.stages.queue_s)

    def batch_done(self, done: BatchStats) -> None:
        """Count a model batch; called on the model thread."""
        self._batch_rows.observe(done.num_rows)
        self._batch_tokens.observe(done.num_tokens)
        self._batch_adapters.observe(done.num_adapters)
        self._batch_seconds.observe(done.infer_s)
        self._trips.inc(done.num_trips)


class RefusalMetrics:
    """Refused requests by reason; the reasons are the closed sets of `service/errors.py`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, labelnames=["reason"], registry=registry)
        self._admission = counter("superpos_admission_refusals", "Requests refused because of a limit")
        self._authentication = counter("superpos_authentication_failures", "Requests whose key was not accepted")
        self._authorization = Counter(
            "superpos_authorization_failures",
            "Requests that the key's role, or the page's origin, does not permit",
            registry=registry,
        )
        for reason in ADMISSION_REASONS:
            self._admission.labels(reason)
        for failure in AUTHENTICATION_REASONS:
            self._authentication.labels(failure)

    def refused(self, error: Exception) -> None:
        """Count the error that ended a request, if it is a refusal."""
        if isinstance(error, QueueFull):
            self._admission.labels(error.reason).inc()
        elif isinstance(error, Unauthenticated):
            self._authentication.labels(error.reason).inc()
        elif isinstance(error, Forbidden):
            self._authorization.inc()


class RegistryMetrics:
    """Registry calls by operation; `changes` is the catalog's poll."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["operation"]
        self._seconds = Histogram(
            "superpos_registry_duration_seconds", "Duration of a registry call", labels,
            buckets=STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._errors = Counter("superpos_registry_errors", "Registry calls that failed", labels, registry=registry)
        for operation in OPERATIONS:
            self._seconds.labels(operation)
            self._errors.labels(operation)

    def called(self, call: RegistryCall) -> None:
        """Count a call; may be called from any thread."""
        self._seconds.labels(call.operation).observe(call.ended - call.started)
        if call.failed:
            self._errors.labels(call.operation).inc()


class FeedbackMetrics:
    """Kept answers and corrections by what happened to them, all tenants together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Texts of tenants that keep some: kept answers, answers not kept, corrections, deleted, expired"
        self._rows = Counter("superpos_feedback_rows", text, ["outcome"], registry=registry)
        for outcome in FEEDBACK_OUTCOMES:
            self._rows.labels(outcome)

    def count(self, outcome: Outcome, rows: int) -> None:
        """Count rows by outcome."""
        self._rows.labels(outcome).inc(rows)


class ShadowMetrics:
    """Shadow rows by outcome, all tasks together; `/tasks/{task}` reports them by task and label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Rows offered to a shadow version: same label, different label, no room or time, no answer"
        self._rows = Counter("superpos_shadow_rows", text, ["outcome"], registry=registry)
        for outcome in OUTCOMES:
            self._rows.labels(outcome)

    def compared(self, rows: Mapping[str, float]) -> None:
        """Count rows by outcome."""
        for outcome, count in rows.items():
            self._rows.labels(outcome).inc(count)
