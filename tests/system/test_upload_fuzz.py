"""No upload can crash or hang a server, or be taken wrongly: `verification/upload_fuzz/__main__.py`'s short profile."""

import asyncio
import json
from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.server import RunningServer

from backbone import Backbone
from benchmarks.common.http_load import Reply
from verification.upload_fuzz.mutations import Mutated, mutated
from verification.upload_fuzz.sending import attack
from verification.upload_fuzz.verdict import Findings, check_of, wrong_with

HANGS_S = 20.0
"""Far above any answer of a tiny model: how fast it is on an idle machine is the benchmark's to say."""
WHOLE = Mutated(0, b"", (), is_http=True)
CUT_OFF = Mutated(0, b"", (), is_http=False)


# Starlette leaves the parts of a body that ends too early, or grows too large, to be closed when they are collected
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
@pytest.mark.usefixtures("one_thread")
def test_every_mutated_upload_is_refused_by_name_or_is_truly_valid(
    serve: Callable[..., RunningServer], tiny: Backbone
) -> None:
    server = serve(bundled=False, prompt_table_bytes=1 << 20, max_loaded_adapters=8)
    found = asyncio.run(attack(server.url, make_adapter(tiny), uploads=300, seed=1, max_seconds=HANGS_S))
    assert [(upload.number, upload.mutations, wrong) for upload, wrong in found.violations] == []
    assert found.statuses.total() == 300
    assert found.accepted > 20
    assert len(found.checks) > 40, "the mutations reach few checks"
    assert all(not task["versions"] for task in server.client.get("/tasks").json()["tasks"])


def test_an_upload_is_made_of_its_seed_and_number_alone(tiny: Backbone) -> None:
    base = make_adapter(tiny)
    uploads = [mutated(base, number, seed=1, task="a") for number in range(40)]
    assert uploads == [mutated(base, number, seed=1, task="a") for number in range(40)]
    assert len({upload.request for upload in uploads}) == 40
    assert uploads[0] != mutated(base, 0, seed=2, task="a")


def _problem(status: int, **members: object) -> Reply:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/problem+json".encode()
    return Reply(status, head, json.dumps({"status": status, **members}).encode())


@pytest.mark.parametrize(
    ("upload", "reply", "complaint"),
    [
        pytest.param(WHOLE, None, "hung up", id="no answer"),
        pytest.param(WHOLE, _problem(500, code="internal_error"), "500", id="a bug"),
        pytest.param(WHOLE, _problem(503, code="not_ready"), "503", id="not ready"),
        pytest.param(WHOLE, _problem(422, code="surprise"), "surprise", id="unknown code"),
        pytest.param(WHOLE, _problem(422, code="invalid_adapter"), "no check", id="no check"),
        pytest.param(WHOLE, Reply(400, b"HTTP/1.1 400 Bad Request", b"Invalid HTTP"), "Invalid HTTP", id="no problem"),
        pytest.param(CUT_OFF, _problem(500, code="internal_error"), "500", id="a bug at half a request"),
    ],
)
def test_the_judge_complains(upload: Mutated, reply: Reply | None, complaint: str) -> None:
    assert complaint in str(wrong_with(upload, reply, Findings()))


@pytest.mark.parametrize(
    ("upload", "reply", "counted"),
    [
        (WHOLE, _problem(413, code="body_too_large"), "body_too_large"),
        (WHOLE, _problem(422, code="invalid_adapter", check="files", expected="some"), "files"),
        (CUT_OFF, Reply(400, b"HTTP/1.1 400 Bad Request", b"Invalid HTTP"), "(no HTTP)"),
    ],
)
def test_the_judge_counts_what_is_rightly_refused(upload: Mutated, reply: Reply, counted: str) -> None:
    found = Findings()
    assert wrong_with(upload, reply, found) is None
    assert dict(found.checks) == {counted: 1}
    assert wrong_with(CUT_OFF, None, found) is None


def test_checks_are_counted_without_the_places_and_names_that_an_upload_invents() -> None:
    assert check_of({"check": "superpos.json: task.labels.17.name", "code": "x"}) == "superpos.json: task.labels.#.name"
    assert check_of({"check": "tokens of label 3", "code": "x"}) == "tokens of label #"
    assert check_of({"check": "superpos.json: " + "x" * 5_000, "code": "x"}) == f"superpos.json: {'x' * 20}…"
    twice = {"check": "superpos.json: task", "expected": "label words 'x' appears twice", "code": "x"}
    assert check_of(twice) == "superpos.json: task (twice)"
