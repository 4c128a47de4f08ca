"""Training jobs over HTTP: what is accepted, and what is refused before a trainer sees it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.adapters import PAIR, make_adapter
from support.http import check_problem
from support.jobs import labelled
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from backbone import Backbone
from service.jobs.queue import JobQueue, open_jobs
from service.jobs.rows import decode_rows

Serve = Callable[..., RunningServer]
TASK = {"template": "sentence: {text}", "labels": ["negative", "positive"], "max_tokens": 64}


@pytest.fixture(scope="module")
def open_server(serve_module: Serve, tiny: Backbone) -> RunningServer:
    """Start a server without keys whose only tenant keeps texts."""
    server = serve_module(max_job_rows=50, max_text_chars=200)
    server.upload("sentiment", make_adapter(tiny))
    server.upload("pair", make_adapter(tiny, PAIR))
    server.client.patch("/admin/tenants/default", json={"retention_days": 30}).raise_for_status()
    return server


@pytest.fixture
def server(open_server: RunningServer) -> Iterator[RunningServer]:
    yield open_server
    for job in jobs(open_server):
        open_server.client.delete(f"/jobs/{job['id']}").raise_for_status()
    open_server.client.delete("/feedback", params={"all": "true"}).raise_for_status()


def submit(server: RunningServer, name: str = "new", /, *, key: str = "", **body: object) -> httpx2.Response:
    return server.client.post(f"/tasks/{name}/jobs", json=body, headers=bearer(key) if key else {})


def jobs(server: RunningServer, **params: str) -> list[dict[str, Any]]:
    return server.client.get("/jobs", params=params).raise_for_status().json()["jobs"]  # type: ignore[no-any-return]


def queue(server: RunningServer) -> JobQueue:
    return open_jobs(server.app.state.runtime.storage)  # type: ignore[attr-defined]


def stored(server: RunningServer, job: str, tenant: str = "default") -> Any:
    blob = queue(server).store.blob(tenant, job, "rows")
    assert blob is not None
    return decode_rows(blob)


def test_a_job_is_queued_with_its_rows_and_read_again(server: RunningServer) -> None:
    answer = submit(server, task=TASK, rows=labelled(6), arguments={"epochs": 2, "lr": 0.1})
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["task"], job["status"], job["rows"], job["progress"]) == ("new", "queued", 6, None)
    assert job["arguments"] == {"epochs": 2, "lr": 0.1}
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert "gripping" not in answer.text, "no text"
    found = server.client.get(answer.headers["Location"]).json()
    assert found == job | {"curve": []}
    assert jobs(server) == jobs(server, task="new") == [job]
    assert jobs(server, task="other") == []
    rows = stored(server, job["id"])
    assert [row.label for row in rows.train] == ["negative", "positive"] * 3
    assert rows.train[0].input == {"text": "flat and overlong 0"}
    check_problem(server.client.get("/tasks/new"), 404, "not_found", "new")


def test_a_cancelled_job_has_no_rows_and_stays_cancelled(server: RunningServer) -> None:
    job = submit(server, task=TASK, rows=labelled(4)).json()["id"]
    for _ in range(2):
        cancelled = server.client.post(f"/jobs/{job}/cancel").raise_for_status().json()
        assert (cancelled["status"], cancelled["error"]) == ("cancelled", "cancelled by http")
    assert queue(server).store.blob("default", job, "rows") is None
    assert server.client.delete(f"/jobs/{job}").status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        check_problem(server.client.request(method, f"/jobs/{job}{path}"), 404, "not_found", "no job")


def test_a_task_with_a_version_needs_no_description(server: RunningServer) -> None:
    job = submit(server, "sentiment", rows=labelled(4)).json()["id"]
    assert queue(server).get("default", job).spec.label_names == ("negative", "positive")
    check_problem(submit(server, "unknown", rows=labelled(4)), 404, "not_found", "say what it is in `task`")
    row = {"input": {"premise": "it rains"}, "label": "yes"}
    check_problem(submit(server, "pair", rows=[row]), 422, "invalid_input", "rows[0].input")


def test_labels_with_examples_make_heads_unless_the_arguments_say_otherwise(server: RunningServer) -> None:
    examples = {label: [f"{label} {number}" for number in range(8)] for label in ("billing", "login")}
    job = submit(server, "tickets", examples=examples).json()
    assert (job["arguments"], job["rows"]) == ({"method": "head", "readout": "auto"}, 16)
    for arguments, expected in (
        ({"seed": 3}, {"method": "head", "readout": "auto", "seed": 3}),
        ({"readout": "pooled"}, {"method": "head", "readout": "pooled"}),
        ({"method": "superpos"}, {"method": "superpos"}),
    ):
        other = submit(server, "tickets", examples=examples, arguments=arguments).json()
        assert other["arguments"] == expected
    assert queue(server).get("default", job["id"]).spec.label_names == ("billing", "login")
    few = examples | {"other": ["one"]}
    check_problem(
        submit(server, "tickets", examples=few), 422, "invalid_request", "'other' has 1 examples, expected 8 to"
    )
    many = examples | {"other": ["one"] * 21}
    check_problem(submit(server, "tickets", examples=many), 422, "invalid_request", "has 21 examples")


def test_corrections_since_a_version_are_rows(server: RunningServer, tiny: Backbone) -> None:
    def correct(text: str, label: str) -> str:
        body = {"task": "sentiment", "input": text, "label": label}
        return str(server.client.post("/feedback", json=body).raise_for_status().json()["id"])

    correct("an old text", "negative")
    server.upload("sentiment", make_adapter(tiny, seed=77))
    first, second = correct("first", "positive"), correct("second", "negative")
    since = {"corrections_since": 2}
    job = submit(server, "sentiment", **since).json()
    assert (job["rows"], job["corrections"]) == (0, 2)
    assert [next(iter(row.input.values())) for row in stored(server, job["id"]).train] == ["second", "first"]
    mixed = submit(server, "sentiment", rows=labelled(4), **since).json()
    assert (mixed["rows"], mixed["corrections"]) == (4, 2)
    assert [next(iter(row.input.values())) for row in stored(server, mixed["id"]).corrections] == ["second", "first"]
    everything = submit(server, "sentiment", corrections_since=0).json()
    assert everything["corrections"] == 3
    check_problem(submit(server, "sentiment", corrections_since=9), 404, "not_found", "no version 9")
    plain = submit(server, "sentiment", rows=labelled(4)).json()
    server.client.delete("/feedback", params={"id": [first, second]}).raise_for_status()
    states = {each["id"]: each["status"] for each in jobs(server)}
    assert states == {
        job["id"]: "cancelled",
        mixed["id"]: "cancelled",
        everything["id"]: "cancelled",
        plain["id"]: "queued",
    }
    check_problem(submit(server, "sentiment", **since), 422, "invalid_request", "no labels")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "no rows, expected rows, examples"),
        ({"rows": labelled(4), "examples": {"a": [], "b": []}}, "rows and examples"),
        ({"rows": [{"input": "a", "label": "positive"}] * 4}, "only the label 'positive'"),
        (
            {"rows": [{"input": "a", "label": "positiv"}]},
            "rows[0].label 'positiv' is not a label of the task; did you mean 'positive'",
        ),
        ({"rows": [{"input": "a", "label": ["positive"]}]}, "rows[0].label is ('positive',), expected one label"),
        ({"rows": labelled(2), "validation": [{"input": "a", "label": "x"}]}, "validation[0].label"),
        ({"rows": labelled(4), "arguments": {"sources": ["/etc"]}}, "starts from no other adapter"),
        ({"rows": labelled(4), "arguments": {"epochs": 100_000}}, "epochs"),
        ({"rows": labelled(4), "arguments": {"method": "full"}}, "method"),
        ({"rows": labelled(4), "arguments": {"lr": "1"}}, "lr"),
        ({"rows": labelled(4), "task": TASK | {"data": {"train": "/etc/passwd"}}}, "read no files and no addresses"),
        ({"rows": labelled(4), "task": TASK | {"name": "x"}}, "name"),
        ({"rows": labelled(4), "task": TASK | {"template": "no field"}}, "task: template 'no field' names 0 fields"),
        ({"rows": labelled(4), "task": TASK | {"template": "{a.__class__}"}}, "template"),
        ({"rows": labelled(4), "task": TASK | {"labels": ["a", "a"]}}, "appears twice"),
        ({"rows": labelled(4), "task": TASK | {"labels": ["a"]}}, "labels"),
        ({"rows": labelled(4), "task": TASK | {"max_tokens": 4_000}}, "max_tokens is 4000, expected at most"),
        ({"rows": labelled(4), "task": TASK | {"max_tokens": 3}}, "max_tokens is 3, expected at least"),
        ({"rows": labelled(4), "file": "hf://owner/data"}, "file"),
        ({"rows": labelled(4), "arguments": {"method": "head", "epochs": 3}}, "arguments.epochs is 3, expected only"),
        ({"rows": labelled(4), "task": TASK | {"metrics": ["pearson"]}}, "task.metrics has 'pearson', expected it"),
    ],
)
def test_what_a_stranger_sends_is_refused_with_the_reason(
    server: RunningServer, body: dict[str, Any], said: str
) -> None:
    answer = submit(server, **{"task": TASK, **body})
    assert answer.status_code == 422, answer.text
    check_problem(answer, 422, answer.json()["code"], said)
    assert jobs(server) == []


@pytest.mark.parametrize(("text", "said"), [("", "empty"), ("  \n", "empty"), ("a" * 300, "expected at most 200")])
def test_texts_that_cannot_be_trained_on_are_refused(server: RunningServer, text: str, said: str) -> None:
    rows = [*labelled(4), {"input": text, "label": "positive"}]
    check_problem(submit(server, task=TASK, rows=rows), 422, "invalid_input", "rows[4].input", said)


def test_the_name_of_a_task_is_checked(server: RunningServer) -> None:
    check_problem(submit(server, "Bad Name", task=TASK, rows=labelled(4)), 400, "invalid_name", "Bad Name")


def test_rows_and_jobs_are_limited_by_the_server_and_by_the_tenant(server: RunningServer) -> None:
    check_problem(submit(server, task=TASK, rows=labelled(52)), 409, "quota_exceeded", "has 52 rows", "is 50")
    limits = {"max_jobs": 2, "max_job_rows": 10, "max_job_s": 7}
    server.client.patch("/admin/tenants/default", json=limits).raise_for_status()
    try:
        check_problem(submit(server, task=TASK, rows=labelled(12)), 409, "quota_exceeded", "is 10")
        first = submit(server, task=TASK, rows=labelled(4)).json()
        assert first["max_s"] == 7
        assert submit(server, task=TASK, rows=labelled(4)).status_code == 201
        check_problem(
            submit(server, task=TASK, rows=labelled(4)), 409, "quota_exceeded", "has 2 jobs", "its limit is 2"
        )
        server.client.post(f"/jobs/{first['id']}/cancel").raise_for_status()
        assert submit(server, task=TASK, rows=labelled(4)).status_code == 201
    finally:
        server.client.patch("/admin/tenants/default", json=dict.fromkeys(limits)).raise_for_status()


def test_many_rows_are_taken_and_a_large_body_is_not(serve: Serve) -> None:
    server = serve(max_job_rows=3_000, max_job_bytes=400_000)
    assert submit(server, task=TASK, rows=labelled(3_000)).json()["rows"] == 3_000
    large = [{"input": "x" * 300, "label": label} for label in ("positive", "negative")] * 700
    check_problem(submit(server, task=TASK, rows=large), 413, "body_too_large", "400000")


def test_a_tenant_sees_its_own_jobs_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    for tenant in ("acme", "zeta"):
        keyring.tenant(tenant)
    acme, zeta = keyring.key("acme", "publish"), keyring.key("zeta", "publish")
    reader = keyring.key("acme", "classify")
    job = submit(server, task=TASK, rows=labelled(4), key=acme).json()
    assert submit(server, task=TASK, rows=labelled(4), key=zeta).status_code == 201
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        url = f"/jobs/{job['id']}{path}"
        check_problem(server.client.request(method, url, headers=bearer(zeta)), 404, "not_found", "no job")
        check_problem(server.client.request(method, url, headers=bearer(reader)), 403, "forbidden", "publish")
    check_problem(submit(server, task=TASK, rows=labelled(4), key=reader), 403, "forbidden", "publish")
    found = server.client.get("/jobs", headers=bearer(acme)).json()["jobs"]
    assert [each["id"] for each in found] == [job["id"]]
    check_problem(submit(server, "sentiment", corrections_since=0, key=acme), 404, "not_found", "no task")
