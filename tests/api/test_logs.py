"""Logs: what a line says of a request, and that nothing which a caller made up is ever in one."""

import json
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, ValidationError
from support.adapters import make_adapter
from support.server import RunningServer
from support.server_process import ServerProcess, server_process
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.telemetry.logging import LogFormat, LogLevel, configure_logging

SECRET = "zanzibar"
"""In every text, key, path, header and file name of these tests; in no log."""
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

BROKEN = """
import service.inference.classifier
sound = service.inference.classifier.Classifier.classify
async def classify(self, ref, request):
    items = request.items
    if items and "break" in str(items[0]):
        import asyncio, pydantic
        class Strict(pydantic.BaseModel):
            number: int
        asyncio.get_running_loop().create_task(fail(str(items[0])))
        try:
            Strict(number=str(items[0]))
        except pydantic.ValidationError as exc:
            raise KeyError(str(items[0])) from exc
    return await sound(self, ref, request)
async def fail(text):
    raise ValueError(text)
service.inference.classifier.Classifier.classify = classify
from cli.main import main
main()
"""
"""A server with a bug: exceptions that quote the caller, in a request and in a task that nobody awaits."""


@pytest.fixture
def registry(tiny: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "registry.sqlite"
    open_registry(path).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    return path


def send(server: ServerProcess, data: bytes) -> bytes:
    """Raw bytes to the server, and what it answers until it closes."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def requests() -> dict[str, tuple[int, bytes]]:
    """Refusals of every kind, with the status of each."""

    def post(path: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
        lines = (
            *(f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"),
            *("Connection: close", f"X-API-Key: sp_{SECRET}_{SECRET}", f"Authorization: Bearer {SECRET}"),
            *(f"Cookie: {SECRET}", f"User-Agent: {SECRET}", *headers),
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body

    def classify(value: object, **more: object) -> bytes:
        return post("/classify/sentiment", json.dumps({"inputs": value, **more}).encode())

    rest = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    boundary = f'--{SECRET}\r\nContent-Disposition: form-data; name="files"; filename="{SECRET}.json"\r\n\r\n'
    return {
        "answered": (200, classify(f"a {SECRET} film")),
        "traced": (200, post("/classify/sentiment", b'{"inputs": "flat"}', f"traceparent: {TRACEPARENT}")),
        "unknown task": (404, post(f"/classify/{SECRET}", b'{"inputs": "x"}')),
        "no route": (404, post(f"/{SECRET}?key={SECRET}", b"{}")),
        "no ref": (400, post(f"/classify/{SECRET}@@{SECRET}", b'{"inputs": "x"}')),
        "unknown field": (422, classify({SECRET: SECRET})),
        "unknown member": (422, classify("x", **{SECRET: SECRET})),
        "wrong type": (422, classify(f"{SECRET}", top_k=SECRET)),
        "too long": (422, classify(f"{SECRET} " * 200)),
        "no JSON": (400, post("/classify/sentiment", f'{{"inputs": {SECRET}'.encode())),
        "no UTF-8": (400, post("/classify/sentiment", SECRET.encode() + b"\xff")),
        "no multipart": (400, post(f"/tasks/{SECRET}/versions", b"x", kind="multipart/form-data")),
        "bad upload": (
            422,
            post(
                f"/tasks/{SECRET}/versions",
                f"{boundary}{SECRET}\r\n--{SECRET}--\r\n".encode(),
                kind=f"multipart/form-data; boundary={SECRET}",
            ),
        ),
        "wrong media type": (415, post("/classify/sentiment", b"x", kind=f"text/{SECRET}")),
        "no gzip": (400, post("/classify/sentiment", SECRET.encode(), "Content-Encoding: gzip")),
        "other coding": (415, post("/classify/sentiment", b"{}", f"Content-Encoding: {SECRET}")),
        "method": (405, f"{SECRET.upper()} /classify/sentiment {rest}".encode()),
        "no HTTP": (400, f"{SECRET} {SECRET}\r\n\r\n".encode()),
        "foreign host": (421, f"GET /tasks {rest.replace('localhost', SECRET)}".encode()),
        "bug": (500, classify(f"break the {SECRET}")),
    }  # fmt: skip


@pytest.mark.slow
def test_nothing_that_a_caller_made_up_is_ever_logged(tiny_t5: Path, registry: Path) -> None:
    program = (sys.executable, "-c", BROKEN)
    with server_process(tiny_t5, registry, program=program, SUPERPOS_LOG_LEVEL="debug") as server:
        for what, (status, data) in requests().items():
            answer = send(server, data)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (what, answer)
        eventually(lambda: sum(entry["event"] == "request" for entry in server.entries) == len(requests()) - 1)
        eventually(lambda: any(entry.get("logger") == "asyncio" for entry in server.entries))
    log = "".join(server.lines)
    assert SECRET not in log.lower()
    entries = server.entries  # every line is JSON
    lines = {str(entry.get("code", entry["status"])): entry for entry in entries if entry["event"] == "request"}
    assert lines["not_found"]["route"] in {"/classify/{ref}", "other"}
    bug = next(entry for entry in entries if entry["event"] == "Exception in ASGI application")
    assert bug["request_id"] == lines["internal_error"]["request_id"]
    assert "KeyError" in str(bug["exception"])
    assert "pydantic" in str(bug["exception"])
    assert "service/inference/classifier.py" in str(bug["exception"]) or "<string>" in str(bug["exception"])
    assert any(entry["event"] == "Task exception was never retrieved" for entry in entries)
    traced = next(entry for entry in entries if entry.get("trace_id"))
    assert traced["trace_id"] == TRACEPARENT.split("-")[1]
    assert {name: traced[name] for name in ("tenant", "task", "version", "rows", "status", "method")} == {
        "tenant": "default",
        "task": "sentiment",
        "version": 1,
        "rows": 1,
        "status": 200,
        "method": "POST",
    }
    assert {"request_id", "route", "duration_ms", "level", "timestamp"} <= set(traced)


@pytest.fixture
def configured() -> Callable[[LogFormat, LogLevel], StringIO]:
    """Logging as a server would have it, into a text."""

    def configure(log_format: LogFormat, level: LogLevel) -> StringIO:
        stream = StringIO()
        with redirect_stderr(stream):
            configure_logging(log_format, level)
        return stream

    return configure


@pytest.fixture(autouse=True)
def _restored() -> object:
    yield
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)


class Strict(BaseModel):
    number: int


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_of_libraries_keep_their_places_and_lose_their_words(
    configured: Callable[[LogFormat, LogLevel], StringIO], log_format: LogFormat
) -> None:
    stream = configured(log_format, "info")
    try:
        try:
            Strict(number=SECRET)  # type: ignore[arg-type]
        except ValidationError as exc:
            raise KeyError(SECRET) from exc
    except KeyError:
        logging.getLogger("uvicorn.error").exception("it failed")
    said = stream.getvalue()
    assert SECRET not in said
    for word in ("it failed", "KeyError", "ValidationError", "test_logs.py", "caused by"):
        assert word in said


def test_the_level_holds_for_the_server_and_never_lets_libraries_chatter(
    configured: Callable[[LogFormat, LogLevel], StringIO],
) -> None:
    stream = configured("json", "error")
    logging.getLogger("service").warning("not this")
    logging.getLogger("uvicorn.error").warning("nor this")
    logging.getLogger("service").error("but this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["but this"]
    stream = configured("json", "debug")
    logging.getLogger("uvicorn.error").info("not this")
    logging.getLogger("opentelemetry.exporter").error("nor this, again and again")
    logging.getLogger("service").debug("but this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["but this"]


def test_a_request_that_ends_leaves_nothing_in_the_next_ones_log(
    serve: Callable[..., RunningServer], tiny: Backbone, configured: Callable[[LogFormat, LogLevel], StringIO]
) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    stream = configured("json", "info")
    server.client.post("/classify/sentiment", json={"inputs": "x"}, headers={"traceparent": TRACEPARENT})
    server.client.get("/tasks")

    def entries() -> dict[str, dict[str, object]]:
        return {entry["route"]: entry for entry in map(json.loads, stream.getvalue().splitlines())}

    eventually(lambda: "/tasks" in entries())
    first, second = entries()["/classify/{ref}"], entries()["/tasks"]
    assert first["trace_id"] == TRACEPARENT.split("-")[1]
    assert not {"trace_id", "task", "rows"} & set(second)
    assert first["request_id"] != second["request_id"]
