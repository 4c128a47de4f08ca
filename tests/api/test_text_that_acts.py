"""Text that acts: what a caller sends comes back short and printable, and no answer names a place of the server."""

import json
import socket
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.redis import RedisServer
from support.server import RunningServer
from support.waiting import eventually

from adapters.printable import is_printable, visible
from backbone import Backbone
from service.api.reflection import MAX_CHARS, readable, shortened

Serve = Callable[..., RunningServer]
MARK = "Z"
LONG = {
    "one word": MARK * 30_000,
    "words": f"{MARK} " * 15_000,
    "quotes": f"{MARK}'\"\\" * 7_000,
    "escapes": f"{MARK}\x1b[2J\x07\u202e\u200b" * 3_000,
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> RunningServer:
    return shared_server


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            yield from texts(each)


def check(answer: httpx2.Response) -> None:
    """Check that no text of an answer, and no header, repeats more than it may of a caller's."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    for text in (*texts(answer.json()), *answer.headers.values()):
        assert MARK * (MAX_CHARS + 1) not in text
        assert text.count(MARK) <= 3 * MAX_CHARS  # a location, a message and a value
        assert len(text) <= 1_001
        assert is_printable(text), repr(text)


def paths(server: RunningServer) -> list[tuple[str, str]]:
    assert isinstance(server.app, FastAPI)
    described = server.app.openapi()["paths"].items()
    return [(method.upper(), path) for path, methods in described for method in methods]


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.slow
def test_every_text_of_a_caller_comes_back_short_and_printable(server: RunningServer, text: str) -> None:
    ask = server.client.request
    name = quote(text[:8_000], safe="")[:15_000].rpartition("%")[0] or text[:15_000]
    for method, path in paths(server):
        body = {} if method in {"GET", "DELETE"} else {"json": {}}
        if "{" in path and "files" not in path and not path.endswith("/health"):
            filled = path.replace("{version}", "1").format_map(
                dict.fromkeys(("ref", "task", "model", "alias", "tenant", "key", "job"), name)
            )
            if (answer := ask(method, filled, **body)).status_code >= 400:
                check(answer)
        plain = path.format(
            ref="pair", task="pair", model="pair", alias="x", version="1", name="x", tenant="x", key="x", job="x"
        )
        check(ask(method, f"{plain}?{name}={name}", **body))
        check(ask(method, plain, headers={"X-Superpos-" + MARK * 9_000: MARK * 9_000}, **body))
        if body:
            check(ask(method, plain, json={text: text}))
            check(ask(method, plain, content=json.dumps(text), headers=JSON))
            check(ask(method, plain, content=b"{", headers=JSON | {"Content-Type": MARK * 9_000}))
            members = {"inputs": {text: text}, "input": {text: text}, "model": text, "tasks": [text], "alias": text}
            for member, value in members.items():
                if (answer := ask(method, plain, json={"inputs": "x", member: value})).status_code != 200:
                    check(answer)
    for file in (text, MARK * 9_000):
        check(ask("POST", "/tasks/t/versions", files=[("files", (file, b"x")), ("files", (file, b"x"))]))
        check(ask("POST", "/tasks/t/versions", files=[("files", ("superpos.json", file.encode()))]))
        check(ask("POST", "/tasks/t/versions", files=[("files", ("x", b"x"))], data={"alias": file}))
    check(ask("GET", f"/tasks/pair/versions/1/files/{name}"))


@pytest.mark.slow
def test_every_header_comes_back_short(server: RunningServer) -> None:
    long, get = MARK * 20_000, server.client.get
    for header in ("Host", "Origin", "If-Match", "If-Unmodified-Since", "Content-Encoding"):
        check(get("/tasks", headers={header: long}))
    check(server.client.put("/tasks/pair/aliases/x", json={"version": 1}, headers={"If-Match": long}))
    check(server.client.request(long, "/tasks"))
    for header in ("X-Request-ID", "traceparent", "Cookie", "User-Agent", "X-Forwarded-For"):
        answer = get("/tasks", headers={header: long})
        assert MARK * 9 not in repr(answer.headers) + answer.text


def test_a_task_of_several_is_refused_by_a_short_name(server: RunningServer) -> None:
    answer = server.client.post("/classify", json={"inputs": "x", "tasks": ["pair", "\x1b" * 150, MARK * 200]})
    assert answer.status_code in {200, 400, 422}
    assert all(len(text) <= 1_001 for text in texts(answer.json()))


def outage(server: RunningServer, place: str, logged: StringIO) -> None:
    """Ask every route of a server whose registry is away; check that the log alone names the place."""
    failed = 0
    for method, path in paths(server):
        body = {} if method in {"GET", "DELETE"} else {"json": {"version": 1, "inputs": "x", "id": "x"}}
        fill = dict.fromkeys(("ref", "task", "model"), "sentiment") | {"alias": "x", "version": "1", "name": "x"}
        answer = server.client.request(method, path.format_map(fill | {"tenant": "x", "key": "x", "job": "x"}), **body)
        failed += answer.status_code == 503
        assert answer.status_code != 500, (method, path, answer.text)
        text = answer.text.replace(server.settings.backbone, "")  # a directory in this test, and its name to callers
        for hidden in (place, "SELECT", "INSERT", "sqlite", "Errno", "Traceback", "/tmp", "127.0.0.1:"):
            assert hidden not in text, (method, path, text)
    assert failed > 8
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert any(
        place in str(line.get("reason")) for line in lines if line["event"] == "request" and line["status"] == 503
    )


@pytest.mark.slow
def test_no_answer_names_a_place_while_the_file_is_away(
    serve: Serve, tiny: Backbone, tmp_path: Path, logged: StringIO
) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    server = serve(registry=folder / "registry.sqlite")
    server.upload("sentiment", make_adapter(tiny))
    folder.rename(tmp_path / "elsewhere")
    eventually(lambda: bool(server.client.get("/healthz/ready").json()["degraded"]))
    outage(server, str(folder), logged)


@pytest.mark.slow
def test_no_answer_names_a_place_while_redis_is_away(
    serve: Serve, tiny: Backbone, start_redis: Callable[..., RedisServer], logged: StringIO
) -> None:
    redis = start_redis()
    server = serve(registry=redis.place())
    server.upload("sentiment", make_adapter(tiny))
    redis.kill()
    eventually(lambda: bool(server.client.get("/healthz/ready").json()["degraded"]))
    outage(server, f"127.0.0.1:{redis.port}", logged)


def test_every_answer_is_taken_for_what_it_says_it_is_and_no_server_is_named(server: RunningServer) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/nothing"),
        ("HEAD", "/docs"),
        ("TRACE", "/tasks"),
        ("GET", "/metrics"),
    ):
        answer = server.client.request(method, path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.headers
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80)) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).lower()
    assert answer.startswith(b"http/1.1 400 ")
    assert b"\r\nx-content-type-options: nosniff\r\n" in answer
    assert b"\r\nserver:" not in answer


def test_each_text_of_a_sentence_is_shortened_by_itself() -> None:
    assert readable("no file 'a'") == "no file 'a'"
    assert readable(f"it's {'a' * 300!r}, not {'b' * 300!r}") == f"it's '{'a' * 200}…', not '{'b' * 200}…'"
    assert readable("x" * 5_000) == "x" * 200 + "…"
    assert len(readable("a b " * 5_000)) == 1_001
    assert readable("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert shortened("\x00" * 300) == "\\x00" * 50 + "…"
    assert visible("é“ok”", lines=False) == "é“ok”"


def test_there_is_one_rule_for_answers_terminals_logs_and_uploads() -> None:
    """What an upload may contain is shown as it is, everywhere; what it may not is escaped, everywhere."""
    blocks = (range(0x3000), range(0xD7F0, 0xE010, 7), range(0xFE00, 0x10000), range(0xE0000, 0xE0100))
    for number in chain(*blocks):
        text = chr(number)
        assert is_printable(text) == (shortened(text) == text), hex(number)
        assert is_printable(text, lines=True) == (visible(text) == text), hex(number)
    assert shortened("a\tb\nc") == "a\\tb\\nc"
    joined = "\u06cc\u200c\u062e \U0001f469\u200d\U0001f4bb 10\u00a0%"  # a Persian word, an emoji, a no-break space
    assert shortened(joined) == joined
