"""OpenTelemetry traces: one span per request with its stages as children. Spans never contain a text.

The spans of the stages are created when the request ends, from times that were measured anyway. Spans are exported in
the background; an unreachable collector delays no request.
"""

import threading
import time
from collections.abc import Mapping, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.datastructures import Headers

from service.inference.predictions import Classification
from service.telemetry.request_record import RequestOutcome, RequestRecord
from service.telemetry.trace_context import extract, to_traceparent

_MAX_WAITING = 2_048
_SEND_EVERY_MS = 1_000
_SEND_TIMEOUT_S = 2.0
_FLUSH_S = 3.0
_LAST_CLIENT_ERROR = 499
_log = structlog.get_logger("service")

Attributes = Mapping[str, str | int]


class RequestSpan:
    """A request's server span, a child of the caller's span if `traceparent` names one."""

    def __init__(self, tracer: Tracer, headers: Headers) -> None:
        # both clocks are read together, to convert times of one into times of the other
        self._since_ns = time.time_ns() - time.monotonic_ns()
        self._tracer = tracer
        self._span = tracer.start_span("request", extract(headers), SpanKind.SERVER)
        self.traceparent = to_traceparent(self._span.get_span_context())
        """The response header: the caller's trace, and this server's span in it."""

    def end(self, ended: RequestOutcome, record: RequestRecord) -> None:
        """Record how the request ended and where its time went."""
        if self._span.is_recording():
            self._describe(self._span, ended, record)
            for answered in record.answered:
                self._stages(answered)
            for call in record.calls:
                self._child(f"registry {call.operation}", call.started, call.ended, {}, failed=call.failed)
        self._span.end()

    def _describe(self, span: Span, ended: RequestOutcome, record: RequestRecord) -> None:
        span.update_name(f"{ended.method} {ended.route}")
        span.set_attributes(
            {
                "http.request.method": ended.method,
                "http.route": ended.route,
                "http.response.status_code": ended.status,
                "superpos.request_id": ended.request_id,
                "superpos.rows": sum(len(answered.predictions) for answered in record.answered),
                "superpos.tokens": sum(answered.stages.packed_tokens for answered in record.answered),
            }
        )
        if record.tenant is not None:
            span.set_attribute("superpos.tenant", record.tenant)
        if len(record.resolved) == 1:
            span.set_attribute("superpos.task", record.resolved[0].task)
            span.set_attribute("superpos.version", record.resolved[0].version)
        if record.code is not None:
            span.set_attribute("error.type", record.code)
        if ended.status > _LAST_CLIENT_ERROR:
            span.set_status(StatusCode.ERROR)

    def _stages(self, answered: Classification) -> None:
        stages = answered.stages
        if not stages.packed_tokens:
            return  # every row came from the result cache
        attributes: Attributes = {
            "superpos.task": answered.resolution.task,
            "superpos.version": answered.resolution.version,
            "superpos.rows": len(answered.predictions),
            "superpos.tokens": stages.packed_tokens,
        }
        at = stages.began
        for name, seconds in (("tokenize", stages.tokenize_s), ("queue", stages.queue_s), ("infer", stages.infer_s)):
            self._child(name, at, at + seconds, attributes)
            at += seconds

    def _child(self, name: str, began: float, ended: float, attributes: Attributes, *, failed: bool = False) -> None:
        """Add a child span; times are on `time.monotonic`'s clock."""
        span = self._tracer.start_span(
            name, set_span_in_context(self._span), attributes=attributes, start_time=self._wall_ns(began)
        )
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(self._wall_ns(ended))

    def _wall_ns(self, monotonic_s: float) -> int:
        return self._since_ns + int(1e9 * monotonic_s)


class Tracing:
    """Creates spans and exports them to an OTLP/HTTP collector.

    Args:
        endpoint: the collector's URL for traces (`http://localhost:4318/v1/traces`)
        service_name: under which the spans appear
        sample_ratio: share of the traces started here that are sampled; a caller's own decision is kept
    """

    def __init__(self, *, endpoint: str, service_name: str, sample_ratio: float) -> None:
        self._exporter = _QuietExporter(OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_TIMEOUT_S))
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource.create({"service.name": service_name}),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(
            self._exporter, max_queue_size=_MAX_WAITING, schedule_delay_millis=_SEND_EVERY_MS
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("superpos")

    def begin(self, headers: Headers) -> RequestSpan:
        """Start the span of a request."""
        return RequestSpan(self._tracer, headers)

    def stop(self) -> None:
        """Export the queued spans, for a few seconds at most."""
        giving_up = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        giving_up.daemon = True
        giving_up.start()
        self._provider.shutdown()
        giving_up.cancel()


class _QuietExporter(SpanExporter):
    """Logs once when the collector becomes unreachable, and once when it is reachable again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._failing = self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            _log.warning("traces_not_sent", spans=len(spans))
        elif self._failing and not failed:
            _log.info("traces_sent_again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()
