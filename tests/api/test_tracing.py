"""Traces: a real OTLP collector, and what it is told of a request."""

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.adapters import make_adapter
from support.server import RunningServer
from support.waiting import eventually

from backbone import Backbone

Serve = Callable[..., RunningServer]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SECRET = "a gripping film that nobody may read in a trace"


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.raw = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.raw += body
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def of_trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.stop()


def attributes(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@pytest.mark.slow
def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_below(
    collector: Collector, serve: Serve, tiny: Backbone
) -> None:
    server = serve(otlp_endpoint=collector.endpoint, otlp_service_name="classifiers")
    server.upload("sentiment", make_adapter(tiny))
    answer = server.client.post("/classify/sentiment", json={"inputs": [SECRET, "flat"]}, headers=CALLER)
    echoed = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", answer.headers["traceparent"])
    assert echoed is not None
    eventually(lambda: len(collector.of_trace(TRACE)) == 4)
    spans = collector.of_trace(TRACE)
    request, tokenize, queue, infer = (spans[name] for name in ("POST /classify/{ref}", "tokenize", "queue", "infer"))
    assert request.parent_span_id.hex() == PARENT
    assert request.span_id.hex() == echoed[1]
    assert request.kind == Span.SPAN_KIND_SERVER
    told = attributes(request)
    assert told.pop("superpos.request_id") == answer.headers["X-Request-ID"]
    assert told.pop("superpos.tokens") == attributes(infer)["superpos.tokens"]
    assert told == {
        "http.request.method": "POST",
        "http.route": "/classify/{ref}",
        "http.response.status_code": 200,
        "superpos.tenant": "default",
        "superpos.task": "sentiment",
        "superpos.version": 1,
        "superpos.rows": 2,
    }
    for earlier, later in ((tokenize, queue), (queue, infer)):
        assert earlier.end_time_unix_nano == later.start_time_unix_nano
    for stage in (tokenize, queue, infer):
        assert stage.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= request.end_time_unix_nano
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "classifiers"
    assert SECRET.encode() not in collector.raw


@pytest.mark.slow
def test_writes_and_misses_show_the_registry_and_refusals_their_code(
    collector: Collector, serve: Serve, tiny: Backbone
) -> None:
    server = serve(otlp_endpoint=collector.endpoint, max_loaded_adapters=1)
    server.upload("one", make_adapter(tiny, seed=1))
    server.upload("two", make_adapter(tiny, seed=2))
    answers = {
        "miss": server.client.post("/classify/one", json={"inputs": SECRET}),
        "hit": server.client.post("/classify/one", json={"inputs": SECRET}),
        "missing": server.client.post("/classify/no-such-task", json={"inputs": SECRET}),
    }
    traces = {name: answer.headers["traceparent"].split("-")[1] for name, answer in answers.items()}
    eventually(lambda: all(collector.of_trace(trace) for trace in traces.values()))
    spans = {name: collector.of_trace(trace) for name, trace in traces.items()}
    assert "registry get" in spans["miss"]
    assert "registry get" not in spans["hit"]
    assert set(spans["missing"]) == {"POST /classify/{ref}"}
    refused = attributes(spans["missing"]["POST /classify/{ref}"])
    assert (refused["error.type"], refused["http.response.status_code"]) == ("not_found", 404)
    names = [span.name for span in collector.spans]
    assert names.count("registry publish") == 2
    assert names.count("registry changes") <= 4  # those that a write waited for, no polls
    assert b"no-such-task" not in collector.raw


@pytest.mark.slow
def test_a_caller_who_samples_nothing_is_heeded(collector: Collector, serve: Serve, tiny: Backbone) -> None:
    server = serve(otlp_endpoint=collector.endpoint)
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    answer = server.client.get("/tasks", headers=unsampled)
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceparent"].endswith("-00")
    server.client.get("/tasks")
    eventually(lambda: len(collector.spans) > 0)
    assert collector.of_trace(TRACE) == {}


@pytest.mark.slow
def test_the_ratio_decides_where_a_trace_begins_here(collector: Collector, serve: Serve) -> None:
    server = serve(otlp_endpoint=collector.endpoint, trace_sample_ratio=0.0)
    flags = {server.client.get("/tasks").headers["traceparent"][-2:] for _ in range(5)}
    assert {int(flag, 16) & 1 for flag in flags} == {0}
    server.client.get("/tasks", headers=CALLER)
    eventually(lambda: len(collector.spans) == 1)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
@pytest.mark.slow
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(collector: Collector, serve: Serve, header: str) -> None:
    traced, untraced = serve(otlp_endpoint=collector.endpoint), serve()
    answer = traced.client.get("/tasks", headers={"traceparent": header})
    assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-0[13]", answer.headers["traceparent"])
    assert TRACE not in answer.headers["traceparent"]
    assert "traceparent" not in untraced.client.get("/tasks", headers={"traceparent": header}).headers


def test_without_an_endpoint_a_callers_trace_is_given_back_as_it_came(serve: Serve) -> None:
    assert serve().client.get("/tasks", headers=CALLER).headers["traceparent"] == CALLER["traceparent"]


@pytest.mark.slow
def test_a_collector_that_is_away_touches_no_request_and_is_told_of_once(
    serve: Serve, tiny: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with caplog.at_level(logging.INFO):
        server = serve(otlp_endpoint=f"http://127.0.0.1:{port}/v1/traces")
        server.upload("sentiment", make_adapter(tiny))
        for _ in range(3):
            assert server.classify("sentiment", "a film").status_code == 200
            eventually(lambda: any("traces_not_sent" in record.getMessage() for record in caplog.records))
        server.server.should_exit = True
        server.client.close()
        eventually(lambda: not any(t.name == "OtelBatchSpanRecordProcessor" for t in threading.enumerate()))
    told = [record for record in caplog.records if "traces" in record.getMessage()]
    assert len(told) == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


@pytest.mark.slow
def test_spans_that_wait_are_sent_at_the_stop(collector: Collector, serve: Serve) -> None:
    server = serve(otlp_endpoint=collector.endpoint)
    server.client.get("/tasks", headers=CALLER)
    server.server.should_exit = True
    server.client.close()
    eventually(lambda: len(collector.of_trace(TRACE)) == 1)
