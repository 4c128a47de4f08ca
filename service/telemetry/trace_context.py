"""W3C Trace Context, read and written in the format of the `traceparent` header."""

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

TRACEPARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


def extract(headers: Headers) -> Context:
    """Return the context of a request; without a valid `traceparent` it has no span."""
    return _PROPAGATOR.extract({name: headers[name] for name in (TRACEPARENT, "tracestate") if name in headers})


def caller_traceparent(headers: Headers) -> str | None:
    """Return the caller's valid `traceparent`, if there is one."""
    if TRACEPARENT not in headers:
        return None
    span = get_current_span(extract(headers)).get_span_context()
    return to_traceparent(span) if span.is_valid else None


def to_traceparent(span: SpanContext) -> str:
    """Return the header's value for a span."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
