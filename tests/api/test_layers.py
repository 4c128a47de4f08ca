"""What stands around the routes: gzipped bodies and answers, who may ask a server without keys, and bugs."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import httpx2
import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer
from support.workers import samples

from adapters.files import to_files
from backbone import Backbone
from service.settings import Settings

Serve = Callable[..., RunningServer]

_JSON = {"Content-Type": "application/json"}
_GZIP = _JSON | {"Content-Encoding": "gzip"}
_BODY = b'{"inputs": "a gripping film"}'


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """Ends with the server still answering."""
    yield shared_server
    assert shared_server.classify("sentiment", "a gripping film").status_code == 200
    assert shared_server.client.get("/healthz/ready").json()["queued_rows"] == 0


def _post(server: RunningServer, content: bytes | Iterator[bytes], headers: dict[str, str] = _GZIP) -> httpx2.Response:
    return server.client.post("/classify/sentiment", content=content, headers=headers)


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(_BODY),
        gzip.compress(_BODY[:9]) + gzip.compress(_BODY[9:]),
        gzip.compress(_BODY) + gzip.compress(b" " * 500_000),
    ],
    ids=["one member", "two members", "a chunk at a time"],
)
@pytest.mark.slow
def test_a_gzipped_body_is_answered_like_the_plain_one(server: RunningServer, packed: bytes) -> None:
    plain = _post(server, _BODY, _JSON).json()
    assert _post(server, packed).json() == plain
    slowly = (packed[i : i + 1] for i in range(min(len(packed), 60)))
    tail = packed[60:]
    assert _post(server, iter([*slowly, tail])).json() == plain


def test_a_gzipped_upload_is_published(server: RunningServer, tiny: Backbone) -> None:
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny, seed=9)).items()]
    request = server.client.build_request("POST", "/tasks/packed/versions", files=parts)
    headers = {"Content-Type": request.headers["Content-Type"], "Content-Encoding": "gzip"}
    response = server.client.post("/tasks/packed/versions", content=gzip.compress(request.read()), headers=headers)
    assert response.status_code == 201, response.text


@pytest.mark.parametrize("size", [2_097_153, 500_000_000])
@pytest.mark.slow
def test_the_limit_holds_for_what_comes_out_of_a_gzipped_body(server: RunningServer, size: int) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 65_536) for _ in range(size // 65_536 + 1)) + packer.flush()
    assert len(bomb) < 2_097_152
    check_problem(_post(server, bomb), 413, "body_too_large", "2097152")


@pytest.mark.parametrize("member", [b"", b" "])
def test_members_of_a_gzipped_body_are_limited(server: RunningServer, member: bytes) -> None:
    packed = gzip.compress(member) * 1_000
    check_problem(_post(server, (packed for _ in range(200))), 400, "malformed_body", "more than 64 members")


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (_BODY, "not gzip"),
        (gzip.compress(_BODY)[:-4], "truncated"),
        (gzip.compress(_BODY) + b"more", "not gzip"),
        (gzip.compress(_BODY)[:-8] + bytes(8), "not gzip"),
        (b"", "truncated"),
    ],
    ids=["plain", "cut short", "garbage behind", "wrong checksum", "empty"],
)
def test_a_body_that_is_no_gzip_is_refused(server: RunningServer, content: bytes, mention: str) -> None:
    check_problem(_post(server, content), 400, "malformed_body", mention)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_content_coding_is_refused_with_the_one_that_is_read(server: RunningServer, coding: str) -> None:
    response = _post(server, _BODY, _JSON | {"Content-Encoding": coding})
    check_problem(response, 415, "unsupported_encoding", repr(coding))
    assert response.headers["Accept-Encoding"] == "gzip"


def test_a_large_answer_is_gzipped_for_those_who_ask_and_a_small_one_never(server: RunningServer) -> None:
    def ask(rows: int, accept: str) -> httpx2.Response:
        body = {"inputs": ["a gripping film"] * rows}
        return server.client.post("/classify/sentiment", json=body, headers={"Accept-Encoding": accept})

    assert "Content-Encoding" not in ask(1, "gzip").headers
    packed, plain = ask(64, "gzip"), ask(64, "identity")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 4


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:80", "[::1]", "[::1]:8080", "LOCALHOST.:9"])
def test_this_machines_names_are_answered_at_any_port(server: RunningServer, host: str) -> None:
    assert server.client.get("/tasks", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "192.168.0.1", "[::2]", "[bad", ""])
def test_a_foreign_host_is_misdirected(server: RunningServer, host: str) -> None:
    check_problem(server.client.get("/tasks", headers={"Host": host}), 421, "misdirected", repr(host))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
def test_a_form_on_a_foreign_page_cannot_upload(server: RunningServer, tiny: Backbone, origin: str) -> None:
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny, seed=9)).items()]
    response = server.client.post("/tasks/planted/versions", files=parts, headers={"Origin": origin})
    check_problem(response, 403, "forbidden", repr(origin))
    assert server.client.get("/tasks/planted").status_code == 404
    ours = server.client.get("/tasks", headers={"Origin": f"http://localhost:{server.client.base_url.port}"})
    assert ours.status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8080", "http://localhost:8080", 200),
        ("localhost:8080", "http://127.0.0.1:8080", 200),
        ("localhost:9000", "http://localhost:9000", 200),  # through a tunnel
        ("localhost", "http://localhost", 200),
        ("localhost", "https://localhost:443", 200),  # behind TLS
        ("[::1]:8080", "http://[::1]:8080", 200),
        ("localhost:8080", "http://localhost:3000", 403),
        ("localhost:8080", "http://localhost", 403),
        ("localhost", "http://localhost:8080", 403),
        ("localhost:443", "http://localhost", 403),
        ("localhost:8080", "http://localhost:x", 403),
        ("localhost", "chrome-extension://localhost", 403),
        ("localhost:8080", "http://[::1:8080", 403),
    ],
)
def test_a_page_of_another_program_of_this_machine_is_foreign(
    server: RunningServer, host: str, origin: str, status: int
) -> None:
    answer = server.client.put("/tasks/none/aliases/x", json={}, headers={"Host": host, "Origin": origin})
    assert answer.status_code == (422 if status == 200 else status), answer.text


def test_a_server_answers_under_the_names_that_it_is_given(serve: Serve) -> None:
    server = serve(allowed_hosts="gpu-box, classify.internal")
    for host in ("gpu-box:8080", "Classify.Internal"):
        assert server.client.get("/tasks", headers={"Host": host}).status_code == 200
    check_problem(server.client.get("/tasks", headers={"Host": "other"}), 421, "misdirected", "'other'")


def test_allowed_hosts_come_from_the_environment_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERPOS_ALLOWED_HOSTS", "a.example,b.example")
    assert Settings().allowed_hosts == ("a.example", "b.example")


@pytest.mark.slow
def test_a_bug_is_a_problem_with_the_callers_request_id_and_trace(serve: Serve) -> None:
    server = serve()
    assert isinstance(server.app, FastAPI)

    async def broken() -> None:
        raise ZeroDivisionError

    for path in ("/broken", "/tei/sst2/broken"):
        server.app.add_api_route(path, broken)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    response = server.client.get("/broken", headers={"X-Request-ID": "asked-7", "traceparent": trace})
    check_problem(response, 500, "internal_error", "include request_id")
    assert response.json()["request_id"] == "asked-7"
    assert response.headers["traceparent"] == trace
    face = server.client.get("/tei/sst2/broken")
    assert (face.status_code, set(face.json())) == (500, {"error", "error_type"})
    assert len(face.headers["X-Request-ID"]) == 32
    answered = {name: n for name, n in samples(server.client).items() if "answered_total" in name and '"500"' in name}
    assert sum(answered.values()) == 2
