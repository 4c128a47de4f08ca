"""A container whose end is not asked for: a body without its end is refused, and nothing of it is stored."""

import gzip
from collections.abc import Iterator

import pytest
from support.adapters import make_adapter
from support.http import check_problem, exchange
from support.server import RunningServer

from adapters.files import to_files
from backbone import Backbone
from verification.upload_fuzz.message import BOUNDARY, Message, field_part, file_part, join

TASK = "/tasks/sentiment"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """Ends with its tasks as they were."""
    yield shared_server
    described = shared_server.client.get(TASK).json()
    assert [version["version"] for version in described["versions"]] == [1]
    assert described["aliases"] == {"production": 1}


@pytest.fixture(scope="module")
def body(tiny: Backbone) -> bytes:
    """A whole upload whose last part says `alias=canary`."""
    files = to_files(make_adapter(tiny, seed=6))
    message = Message(
        [*(file_part(name.encode(), data) for name, data in files.items()), field_part(b"alias", b"canary")]
    )
    join(message)
    return message.body


def test_a_multipart_body_is_refused_wherever_it_is_cut(server: RunningServer, body: bytes) -> None:
    assert body.endswith(b"\r\n--" + BOUNDARY + b"--\r\n")
    end = len(body) - len(b"--\r\n")
    cuts = [body.rindex(b"canary"), body.rindex(b"canary") + 3, body.rindex(b"\r\n--"), end - 4, end, end + 1]
    cuts += [body.index(b"\r\n\r\n") + 6, 40, 1]
    for cut in cuts:
        refused = server.client.post(f"{TASK}/versions", content=body[:cut], headers=MULTIPART)
        assert refused.status_code == 400, f"cut at {cut} of {len(body)}: {refused.text}"
    check_problem(
        server.client.post(f"{TASK}/versions", content=body[:end], headers=MULTIPART),
        400,
        "malformed_body",
        "truncated",
        BOUNDARY.decode() + "--",
    )


def test_the_end_is_found_however_the_body_arrives(server: RunningServer, body: bytes) -> None:
    end = len(body) - len(b"--\r\n")
    for cut in range(end - 2, end + 3):
        chunks = iter([body[: cut - 40], *(body[index : index + 1] for index in range(cut - 40, cut))])
        refused = server.client.post(f"{TASK}/versions", content=chunks, headers=MULTIPART)
        if cut < end + 2:
            assert refused.status_code == 400, f"cut at {cut - end} after the end"
        else:
            assert refused.status_code == 201, refused.text
            aliases = server.client.delete(f"{TASK}/aliases/canary")
            assert aliases.status_code == 204
            assert server.client.delete(f"{TASK}/versions/2").status_code == 204


def test_what_follows_the_closing_boundary_is_not_dropped(server: RunningServer, body: bytes) -> None:
    refused = server.client.post(f"{TASK}/versions", content=body + body, headers=MULTIPART)
    check_problem(refused, 400, "malformed_body", "continues after its closing boundary")


def test_a_gzipped_upload_is_refused_wherever_it_is_cut(server: RunningServer, body: bytes) -> None:
    packed, headers = gzip.compress(body), MULTIPART | {"Content-Encoding": "gzip"}
    for cut in (0, 5, len(packed) // 2, len(packed) - 9, len(packed) - 8, len(packed) - 4, len(packed) - 1):
        refused = server.client.post(f"{TASK}/versions", content=packed[:cut], headers=headers)
        check_problem(refused, 400, "malformed_body", "truncated")
    second_member = packed + gzip.compress(b"epilogue")[:-3]
    refused = server.client.post(f"{TASK}/versions", content=second_member, headers=headers)
    check_problem(refused, 400, "malformed_body", "truncated")
    inside = gzip.compress(body[:-6])
    refused = server.client.post(f"{TASK}/versions", content=inside, headers=headers)
    check_problem(refused, 400, "malformed_body", "truncated", BOUNDARY.decode())


@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
def test_a_body_that_ends_before_its_framing_is_refused(server: RunningServer, body: bytes, framing: str) -> None:
    chunked = framing == "Transfer-Encoding"
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = f"POST {TASK}/versions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
    head += f"{framing}: {'chunked' if chunked else len(whole)}\r\n\r\n"
    for cut in (1, 2, 3, 5, 7, len(whole) // 2):
        answer = exchange(server.url, head.encode() + whole[:-cut])
        assert answer.startswith(b"HTTP/1.1 400 "), f"{cut} bytes short: {answer[:300]!r}"
