"""`POST /classify`: the same inputs for several tasks in one request."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from support.adapters import TOPIC, make_adapter
from support.http import check_problem
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters import PromptAdapter
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
        ({"inputs": "x"}, ["no task", "tasks"]),
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


HEADS = ("soft-0", "pooled-1", "soft-2", "pooled-3")
"""Tasks without a prompt."""


def head(backbone: Backbone, name: str) -> PromptAdapter:
    kind, _, seed = name.partition("-")
    return make_adapter(backbone, TOPIC, seed=int(seed), num_virtual_tokens=0, readout=kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def heads(server: RunningServer, tiny: Backbone) -> RunningServer:
    for name in HEADS:
        server.upload(name, head(tiny, name))
        server.classify(name, "a film").raise_for_status()  # in memory from now on
    return server


def added(server: RunningServer, act: Callable[[], object]) -> dict[str, float]:
    """What an action adds to the model's batches, which are counted before the model is idle again."""
    engine = server.app.state.runtime.inference.engine  # type: ignore[attr-defined]

    def counted() -> dict[str, float]:
        eventually(lambda: engine.stats().busy_s == 0)
        sums = {what: sample(server, f"superpos_batch_{what}_sum") for what in ("rows", "tokens", "adapters")}
        return {**sums, "batches": sample(server, "superpos_batch_rows_count")}

    before = counted()
    act()
    return {what: value - before[what] for what, value in counted().items()}


def test_heads_share_one_batch_and_one_encoded_text_and_answer_as_if_alone(heads: RunningServer) -> None:
    alone = [{"ref": ref, **heads.classify(ref, TEXTS).json()} for ref in HEADS]
    results: list[object] = []
    found = added(heads, lambda: results.extend(_ask(heads, list(HEADS), TEXTS).json()["results"]))
    assert results == alone
    texts = sum(prediction["tokens"] for prediction in alone[0]["predictions"])
    # each further row adds a token
    assert found == {"rows": 8, "tokens": texts + 6, "adapters": 4, "batches": 1}


def test_a_task_with_a_prompt_pays_for_its_own_text(heads: RunningServer) -> None:
    refs = [*HEADS, "sentiment", "topic"]
    together = added(heads, lambda: _ask(heads, refs, "a film").raise_for_status())
    apart = [
        added(heads, lambda refs=refs: _ask(heads, refs, "a film").raise_for_status())
        for refs in (list(HEADS), ["sentiment"], ["topic"])
    ]
    assert together["batches"] == 1
    assert together["tokens"] == sum(found["tokens"] for found in apart)


def test_a_head_that_is_refused_does_not_keep_the_others_from_sharing(heads: RunningServer) -> None:
    results: list[dict[str, object]] = []
    refs = ["nothing", HEADS[0], "pair", *HEADS[1:]]
    found = added(heads, lambda: results.extend(_ask(heads, refs, "a film").json()["results"]))
    assert ["problem" in result for result in results] == [True, False, True, False, False, False]
    assert (found["batches"], found["rows"]) == (1, 4)


def test_the_usage_of_heads_is_one_text_and_a_token_for_each_further_task(heads: RunningServer) -> None:
    def used() -> int:
        return int(heads.client.get("/usage").json()["total"]["tokens"])

    before = used()
    answer = _ask(heads, list(HEADS), "flat and overlong").json()["results"][0]
    assert used() - before == answer["predictions"][0]["tokens"] + 3


@pytest.mark.slow
def test_where_the_quota_has_no_room_for_all_heads_as_many_are_answered_as_fit(
    serve: Callable[..., RunningServer], tiny: Backbone
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    keyring.tenant("acme")
    key = keyring.key("acme", "publish")

    def ask(tasks: Sequence[str]) -> list[dict[str, Any]]:
        body = {"tasks": tasks, "inputs": "a film"}
        results: list[dict[str, Any]] = server.client.post("/classify", json=body, headers=bearer(key)).json()[
            "results"
        ]
        return results

    for name in HEADS:
        server.upload(name, head(tiny, name), key=key)
    tokens = next(result["predictions"][0]["tokens"] for result in ask(HEADS))
    keyring.change("acme", tokens_per_min=2 * tokens + 3)
    assert all("predictions" in result for result in ask(HEADS)), "they cost one text and three tokens"
    problems = [result["problem"]["code"] for result in ask(HEADS) if "problem" in result]
    assert problems == ["rate_limited"] * 3, "the rest pays for one text"


def test_a_fan_out_tells_where_its_time_went(server: RunningServer) -> None:
    header = _ask(server, ["sentiment", "nothing"], "x").headers["Server-Timing"]
    assert re.findall(r"(\w+);dur=", header) == ["queue", "tokenize", "infer", "total"]


def test_every_part_keeps_the_requests_deadline(server: RunningServer) -> None:
    check_problem(_ask(server, ["sentiment", "topic"], ["x"] * 128, timeout_ms=1), 504, "deadline_exceeded", "0.001")
