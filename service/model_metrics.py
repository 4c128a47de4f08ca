"""Rows and batches in numbers: what was classified, and how full the model's batches are."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.buckets import LATENCY_BUCKETS, STAGE_BUCKETS
from service.classifier import Classification
from service.engine_stats import BatchDone

_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS_BUCKETS = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)


class ModelMetrics:
    """rows = Σ predictions of the requests that were answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter("superpos_rows", "Rows answered with a prediction", registry=registry)
        self._rows_truncated = Counter(
            "superpos_rows_truncated", "Rows cut to their task's token limit", registry=registry
        )
        self._rows_cached = Counter(
            "superpos_rows_cached", "Rows answered from the result cache, without the model", registry=registry
        )
        self._tokenize_seconds = Histogram(
            "superpos_tokenize_duration_seconds",
            "A classified request's texts to token ids",
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "superpos_queue_duration_seconds",
            "From a classified request's rows in the queue to the begin of its first batch",
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._batch_rows = Histogram(
            "superpos_batch_rows", "Rows in a model batch", buckets=_ROWS_BUCKETS, registry=registry
        )
        self._batch_tokens = Histogram(
            "superpos_batch_tokens",
            "Tokens in a model batch: prompts, texts, and label trie nodes past the first",
            buckets=_TOKENS_BUCKETS,
            registry=registry,
        )
        self._batch_adapters = Histogram(
            "superpos_batch_adapters",
            "Distinct adapters in a model batch",
            buckets=_ROWS_BUCKETS,
            registry=registry,
        )
        self._trips = Counter(
            "superpos_adapter_trips", "Times that the circuit breaker tripped an adapter", registry=registry
        )
        self._batch_seconds = Histogram(
            "superpos_batch_duration_seconds", "One model batch", buckets=LATENCY_BUCKETS, registry=registry
        )

    def classified(self, answered: Classification) -> None:
        """Count a request's predictions, and where its time went."""
        rows = answered.predictions
        self._rows.inc(len(rows))
        self._rows_truncated.inc(sum(row.truncated for row in rows))
        self._rows_cached.inc(sum(row.cached for row in rows))
        self._tokenize_seconds.observe(answered.stages.tokenize_s)
        self._queue_seconds.observe(answered.stages.queue_s)

    def batch_done(self, done: BatchDone) -> None:
        """Count a model batch; called on the model thread."""
        self._batch_rows.observe(done.num_rows)
        self._batch_tokens.observe(done.num_tokens)
        self._batch_adapters.observe(done.num_adapters)
        self._batch_seconds.observe(done.infer_s)
        self._trips.inc(done.num_trips)
