"""`POST /classify`: the same inputs for several tasks in one request."""

import re

import httpx2
import pytest
from support.adapters import TOPIC, make_adapter
from support.http import check_problem
from support.server import RunningServer, sample
from support.waiting import eventually

from backbone import Backbone

TEXTS = ["a gripping film", "flat and overlong"]


@pytest.fixture(scope="module")
def server(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """With a third task that has one field, and two versions."""
    shared_server.upload("topic", make_adapter(tiny, TOPIC))
    shared_server.upload("topic", make_adapter(tiny, TOPIC, seed=1), alias="canary")
    return shared_server


def _ask(server: RunningServer, tasks: list[str], inputs: object, **body: object) -> httpx2.Response:
    return server.client.post("/classify", json={"tasks": tasks, "inputs": inputs, **body})


def test_every_task_answers_as_if_it_were_asked_alone_in_the_order_of_the_tasks(server: RunningServer) -> None:
    refs = ["topic@canary", "sentiment", "topic", "sentiment@1"]
    results = _ask(server, refs, TEXTS, top_k=1).json()["results"]
    alone = [{"ref": ref, **server.classify(ref, TEXTS, top_k=1).json()} for ref in refs]
    assert results == alone


def test_the_tasks_rows_share_batches(server: RunningServer) -> None:
    def shares() -> bool:
        names = ("superpos_batch_adapters_sum", "superpos_batch_adapters_count")
        before = [sample(server, name) for name in names]
        assert _ask(server, ["topic@canary", "sentiment", "topic"], TEXTS).is_success
        adapters, batches = (sample(server, name) - old for name, old in zip(names, before, strict=True))
        return adapters > batches

    eventually(shares)  # at once, unless the model is done with the first row before the second task's arrive


def test_a_task_that_fails_has_its_problem_in_its_place(server: RunningServer) -> None:
    response = _ask(server, ["sentiment", "nothing", "pair", "Bad Name", "topic@9"], "a gripping film")
    assert response.status_code == 200
    results = response.json()["results"]
    assert results[0]["predictions"] == server.classify("sentiment", "a gripping film").json()["predictions"]
    problems = [result["problem"] for result in results[1:]]
    assert [(problem["status"], problem["code"]) for problem in problems] == [
        (404, "not_found"),
        (422, "invalid_input"),
        (400, "invalid_name"),
        (404, "not_found"),
    ]
    assert [result["ref"] for result in results] == ["sentiment", "nothing", "pair", "Bad Name", "topic@9"]
    assert {problem["request_id"] for problem in problems} == {response.headers["X-Request-ID"]}


def test_where_no_task_answers_the_response_is_the_first_ones_problem(server: RunningServer) -> None:
    check_problem(_ask(server, ["nothing", "pair"], "x"), 404, "not_found", "'nothing'")
    check_problem(_ask(server, ["pair", "nothing"], "x"), 422, "invalid_input", "'premise'")


@pytest.mark.parametrize(
    ("body", "mentions"),
    [
        ({"tasks": [], "inputs": "x"}, ["tasks"]),
        ({"inputs": "x"}, ["tasks"]),
        ({"tasks": ["sentiment"] * 33, "inputs": "x"}, ["33 refs", "32"]),
        ({"tasks": ["sentiment"] * 3, "inputs": ["x"] * 100}, ["100 items for 3 tasks, 300 rows", "256"]),
        ({"tasks": ["sentiment"], "inputs": "x", "timeout_ms": 10**9}, ["1000000000"]),
        ({"tasks": ["sentiment"], "inputs": "x", "more": 1}, ["more"]),
    ],
)
def test_a_request_that_cannot_be_is_refused_as_a_whole(
    server: RunningServer, body: dict[str, object], mentions: list[str]
) -> None:
    check_problem(server.client.post("/classify", json=body), 422, "invalid_request", *mentions)


def test_a_fan_out_tells_where_its_time_went(server: RunningServer) -> None:
    header = _ask(server, ["sentiment", "nothing"], "x").headers["Server-Timing"]
    assert re.findall(r"(\w+);dur=", header) == ["queue", "tokenize", "infer", "total"]


def test_every_part_keeps_the_requests_deadline(server: RunningServer) -> None:
    check_problem(_ask(server, ["sentiment", "topic"], ["x"] * 128, timeout_ms=1), 504, "deadline_exceeded", "0.001")
