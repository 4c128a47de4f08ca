"""Corrections over HTTP: from an answer to a data set, for a tenant that has opted in, and nothing for any other."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from support.adapters import PAIR, TOPIC, TOPICS, make_adapter
from support.http import check_problem
from support.redis import RedisServer
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.calibration import Calibration
from backbone import Backbone
from service.runtime import Runtime

Serve = Callable[..., RunningServer]


def multi_label(backbone: Backbone) -> PromptAdapter:
    made = make_adapter(backbone, TOPICS, readout="pooled")
    calibration = Calibration(label_thresholds=(0.5,) * len(TOPICS.label_names))
    return dataclasses.replace(made, manifest=made.manifest.model_copy(update={"calibration": calibration}))


@pytest.fixture(scope="module")
def open_server(serve_module: Serve, tiny: Backbone) -> RunningServer:
    """Start a server without keys whose only tenant keeps texts."""
    server = serve_module()
    server.upload("sentiment", make_adapter(tiny))
    server.upload("pair", make_adapter(tiny, PAIR))
    server.upload("topics", multi_label(tiny))
    server.client.patch("/admin/tenants/default", json={"retention_days": 30}).raise_for_status()
    return server


@pytest.fixture
def server(open_server: RunningServer) -> Iterator[RunningServer]:
    yield open_server
    open_server.client.delete("/feedback", params={"all": "true"}).raise_for_status()


def correct(server: RunningServer, *, key: str = "", **body: object) -> httpx2.Response:
    headers = {"Content-Type": "application/json"} | (bearer(key) if key else {})
    return server.client.post("/feedback", content=json.dumps(body).encode(), headers=headers)


def rows(server: RunningServer, view: str = "corrections", task: str = "sentiment", **params: object) -> Any:
    answer = server.client.get(f"/tasks/{task}/feedback", params={"view": view, **params})
    return answer.raise_for_status().json()["rows"]


def ask(server: RunningServer, inputs: object, ref: str = "sentiment") -> tuple[str, list[dict[str, Any]]]:
    """The id of a request, and its predictions."""
    answer = server.classify(ref, inputs).raise_for_status()
    return answer.headers["X-Request-ID"], answer.json()["predictions"]


def test_an_answer_is_corrected_by_its_request_and_leaves_the_queue(server: RunningServer) -> None:
    request_id, [predicted] = ask(server, "a gripping film")
    [kept] = rows(server, "least_confident")
    assert kept["input"] == {next(iter(kept["input"])): "a gripping film"}
    assert kept["answer"] == {"version": 1, "label": predicted["label"], "score": predicted["score"]}
    assert (kept["label"], kept["who"], kept["request_id"]) == (None, None, request_id)

    right = "negative" if predicted["label"] == "positive" else "positive"
    receipt = correct(server, request_id=request_id, label=right, who="ann")
    assert receipt.status_code == 201, receipt.text
    assert set(receipt.json()) == {"id", "task", "label", "corrected_at", "delete_at"}, "no text"
    assert rows(server, "least_confident") == []
    [wrong] = rows(server, "reported_wrong")
    assert (wrong["id"], wrong["label"], wrong["who"]) == (kept["id"], right, "ann")
    again = correct(server, id=kept["id"], label=predicted["label"])
    assert again.status_code == 201
    assert rows(server, "reported_wrong") == []
    assert [row["label"] for row in rows(server)] == [predicted["label"]]


def test_one_input_of_several_is_named_by_its_index_and_task(server: RunningServer) -> None:
    request_id, _ = ask(server, ["one text", "another text"])
    check_problem(correct(server, request_id=request_id, label="positive"), 422, "invalid_request", "2 inputs")
    assert correct(server, request_id=request_id, index=1, label="positive").status_code == 201
    assert [list(row["input"].values()) for row in rows(server)] == [["another text"]]
    missing = correct(server, request_id=request_id, index=2, label="positive")
    check_problem(missing, 404, "not_found", f"request '{request_id}', inputs[2]", "send the text instead")


def test_every_compatible_api_keeps_its_answers(server: RunningServer) -> None:
    for path, body in (
        ("/tei/sentiment/predict", {"inputs": "by tei"}),
        ("/v1/classify", {"model": "sentiment", "input": "by openai"}),
        ("/classify", {"tasks": ["sentiment"], "inputs": ["by fan-out"]}),
    ):
        answer = server.client.post(path, json=body).raise_for_status()
        assert correct(server, request_id=answer.headers["X-Request-ID"], label="positive").status_code == 201, path
    assert len(rows(server)) == 3


def test_a_text_is_corrected_without_a_request_and_fits_its_task(server: RunningServer) -> None:
    fields = {name: f"text of {name}" for name in PAIR.fields}
    label = PAIR.label_names[0]
    assert correct(server, task="pair", input=fields, label=label).status_code == 201
    assert rows(server, task="pair")[0]["input"] == fields
    assert rows(server, task="pair")[0]["answer"] is None
    for given, code, mention in (
        ({"input": "a text"}, "invalid_input", "input: a plain string was given"),
        ({"input": {"nothing": "a"}}, "invalid_input", "unknown field 'nothing'"),
        ({"input": dict.fromkeys(PAIR.fields, " \n")}, "invalid_input", "the text is empty"),
        ({"input": dict.fromkeys(PAIR.fields, "\ud800")}, "invalid_input", "surrogate"),
        ({"input": dict.fromkeys(PAIR.fields, "a" * 100_001)}, "invalid_input", "expected at most 100000"),
        ({"input": 5}, "invalid_request", "expected a string"),
        ({"input": fields, "label": "none of them"}, "invalid_request", "is not one of task 'pair'"),
        ({"input": fields, "label": [label]}, "invalid_request", "expected one label"),
        ({"input": fields, "label": 5}, "invalid_request", "expected a label"),
        ({"input": fields, "who": "ann\x1b[2J"}, "invalid_request", "printable text"),
        ({"input": fields, "who": ""}, "invalid_request", "at least 1 character"),
        ({"input": fields, "id": "0" * 24}, "invalid_request", "named by id and input"),
        ({}, "invalid_request", "named by nothing"),
        ({"index": 1, "input": fields}, "invalid_request", "expected it with request_id only"),
    ):
        check_problem(correct(server, **{"task": "pair", "label": label, **given}), 422, code, mention)
    check_problem(correct(server, input=fields, label=label), 422, "invalid_request", "needs the task")
    check_problem(correct(server, task="gone", input="a", label=label), 404, "not_found", "no task 'gone'")
    assert len(rows(server, task="pair")) == 1


def test_the_labels_of_a_multi_label_text_are_a_set(server: RunningServer) -> None:
    first, second = TOPICS.label_names[:2]
    request_id, _ = ask(server, "sports and business", "topics")
    assert correct(server, request_id=request_id, label=[second, first]).json()["label"] == [first, second]
    assert correct(server, task="topics", input="nothing of them", label=[]).json()["label"] == []
    for label in (first, [first, first], [first, "none"]):
        check_problem(correct(server, task="topics", input="a", label=label), 422, "invalid_request", "label")


def test_the_queue_is_paged_by_confidence(server: RunningServer) -> None:
    words = ["film", "sports", "world", "fox", "capital", "rains", "news"]
    _, predictions = ask(server, [f"a {word} text" for word in words])
    expected = sorted(row["score"] for row in predictions)
    found: list[float] = []
    cursor: dict[str, str] = {}
    while True:
        params = {"limit": 3, **cursor}
        body = server.client.get("/tasks/sentiment/feedback", params=params).raise_for_status().json()
        found += [row["answer"]["score"] for row in body["rows"]]
        assert body["counts"]["least_confident"] == len(words)
        if body["cursor"] is None:
            break
        cursor = {"cursor": body["cursor"]}
    assert found == expected
    for cursor_text in ("x", "nan~" + "0" * 24, "1~zz", "1e999~" + "0" * 24):
        answer = server.client.get("/tasks/sentiment/feedback", params={"cursor": cursor_text})
        check_problem(answer, 422, "invalid_request", "expected the cursor of the page before")
    for wrong in ({"limit": 0}, {"limit": 1_001}, {"view": "all"}, {"cursor": "1" * 200}):
        assert server.client.get("/tasks/sentiment/feedback", params=wrong).status_code == 422


@pytest.mark.slow
def test_a_shadows_other_answers_are_in_the_queue(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.client.patch("/admin/tenants/default", json={"retention_days": 1}).raise_for_status()
    server.upload("topic", make_adapter(tiny, TOPIC))
    server.upload("topic", make_adapter(tiny, TOPIC, seed=3), alias="")
    server.client.put("/tasks/topic/traffic", json={"shadow": 2}).raise_for_status()
    words = ("gripping", "film", "sports", "business", "world", "quick", "brown", "fox", "capital", "rains")
    texts = [f"the {word} text" for word in words]
    ours = server.classify("topic", texts).json()["predictions"]
    theirs = server.classify("topic@2", texts).json()["predictions"]
    expected = {
        (text, one["label"], other["label"])
        for text, one, other in zip(texts, ours, theirs, strict=True)
        if one["label"] != other["label"]
    }
    assert expected, "the adapters' answers must differ for this to say anything"

    def flips() -> set[tuple[str, str, str]]:
        found = rows(server, "shadow_flips", "topic")
        return {
            (next(iter(row["input"].values())), row["answer"]["label"], row["shadow"]["label"])
            for row in found
            if row["answer"]["version"] == 1
        }

    server.classify("topic", texts).raise_for_status()  # the texts' latest answers are by production again
    eventually(lambda: flips() == expected)


def test_an_export_is_safe_to_read_and_names_its_version(server: RunningServer) -> None:
    hostile = '=cmd|"/c calc"!A1\r\n{"label": "positive"}\u2028\x1b]0;owned\x07\u202e,\x85 日本 '
    assert correct(server, task="sentiment", input=hostile, label="negative", who="ann").status_code == 201
    assert correct(server, task="sentiment", input="plain", label="positive").status_code == 201
    answer = server.client.get("/tasks/sentiment/feedback/export").raise_for_status()
    lines = answer.text.splitlines()
    assert answer.content.count(b"\n") == 2 == len(lines)
    assert not {"\x1b", "\x07", "\u202e", "\u2028", "\x85"} & set(answer.text)
    found = [json.loads(line) for line in lines]
    assert [(next(iter(row["input"].values())), row["label"]) for row in found] == [
        ("plain", "positive"),
        (hostile, "negative"),
    ]
    assert "ann" not in answer.text
    version = int(answer.headers["X-Superpos-Dataset-Version"])
    assert answer.headers["Content-Disposition"] == f'attachment; filename="sentiment-corrections-{version}.jsonl"'
    correct(server, task="sentiment", input="plain", label="negative").raise_for_status()
    again = server.client.get("/tasks/sentiment/feedback/export").raise_for_status()
    assert int(again.headers["X-Superpos-Dataset-Version"]) == version + 1
    assert len(again.text.splitlines()) == 2


def test_rows_are_deleted_by_id_by_person_by_task_and_whole(server: RunningServer) -> None:
    given = {"task": "sentiment", "label": "positive"}
    people = ("ann", "ann", "ann", "bob", "bob")
    ids = [correct(server, input=f"text {n}", who=who, **given).json()["id"] for n, who in enumerate(people)]
    fields = dict.fromkeys(PAIR.fields, "a")
    correct(server, task="pair", input=fields, label=PAIR.label_names[0], who="ann").raise_for_status()

    def delete(**params: object) -> int:
        return int(server.client.delete("/feedback", params=params).raise_for_status().json()["deleted"])

    assert delete(id=[ids[0], ids[4], "0" * 24]) == 2
    assert delete(who="ann", task="pair") == 1
    assert delete(who="ann") == 2
    assert delete(who="nobody") == 0
    assert [row["who"] for row in rows(server)] == ["bob"]
    assert delete(task="pair") == 0
    assert delete(all="true") == 1
    for params in ({}, {"all": "false"}, {"all": "true", "who": "ann"}, {"id": ids[0], "task": "pair"}):
        check_problem(server.client.delete("/feedback", params=params), 422, "invalid_request", "expected one of")
    for params in ({"who": ""}, {"id": "x"}, {"person": "ann"}):
        assert server.client.delete("/feedback", params=params).status_code == 422, params
    audit = server.client.get("/admin/audit", params={"limit": 1_000}).json()["entries"]
    details = [entry["detail"] for entry in audit if entry["action"] == "feedback_deleted"]
    assert "2 rows: by a person" in details
    assert not any("ann" in detail for detail in details), "a deleted person stays in the audit log"


def runtime_of(server: RunningServer) -> Runtime:
    return server.app.state.runtime  # type: ignore[attr-defined, no-any-return]


def stored(place: str | Path) -> bytes:
    """All that a registry holds."""
    if "://" not in str(place):
        folder = Path(place).parent
        return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    from adapters.storage.redis import connect  # noqa: PLC0415

    client = connect(str(place)).client
    return b"".join(client.dump(key) + key for key in client.keys("*"))  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.slow
def test_a_tenant_without_opt_in_stores_no_text_at_all(
    serve: Serve, tiny: Backbone, redis_server: RedisServer, tmp_path: Path, kind: str
) -> None:
    place = redis_server.place() if kind == "redis" else str(tmp_path / "own" / "registry.sqlite")
    server = serve(registry=place)
    server.upload("sentiment", make_adapter(tiny))
    secret = uuid4().hex
    request_id, _ = ask(server, f"text {secret}")
    for body in (
        {"request_id": request_id, "label": "positive"},
        {"task": "sentiment", "input": f"text {secret}", "label": "positive", "who": secret},
        {"id": "0" * 24, "label": "positive"},
    ):
        refused = correct(server, **body)
        check_problem(refused, 409, "retention_off", "tenant 'default' keeps no texts", "--retention-days")
    for path in ("/tasks/sentiment/feedback", "/tasks/sentiment/feedback/export"):
        check_problem(server.client.get(path), 409, "retention_off", "keeps no texts")
    state = server.client.get("/feedback").json()
    assert state == {"retention_days": None, "max_bytes": None, "kept_bytes": 0, "corrected_bytes": 0}
    assert secret.encode() not in stored(place)

    server.client.patch("/admin/tenants/default", json={"retention_days": 1}).raise_for_status()
    check_problem(correct(server, request_id=request_id, label="positive"), 404, "not_found", "opts in")
    kept, _ = ask(server, f"text {secret}")
    assert correct(server, request_id=kept, label="positive", who="ann").status_code == 201
    assert server.client.get("/feedback").json()["corrected_bytes"] > 0

    # one that opts out again loses what it kept, and may ask for that itself before
    server.client.patch("/admin/tenants/default", json={"retention_days": None}).raise_for_status()
    check_problem(server.client.get("/tasks/sentiment/feedback"), 409, "retention_off")
    runtime = runtime_of(server)
    loop_free_sweep(runtime)
    assert server.client.get("/feedback").json()["corrected_bytes"] == 0
    assert secret.encode() not in stored(place)
    assert sample(server, 'superpos_feedback_rows_total{outcome="expired"}') >= 1


def loop_free_sweep(runtime: Runtime) -> None:
    """Delete what has expired now, instead of within a minute."""
    import asyncio  # noqa: PLC0415

    asyncio.run(runtime.feedback.sweeper.sweep())


@pytest.mark.slow
def test_tenants_rows_are_their_own_and_bounded(serve: Serve, tiny: Backbone) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    keys = {}
    for tenant, seed in (("acme", 1), ("zeta", 2)):
        keyring.tenant(tenant, retention_days=1, max_feedback_bytes=20_000)
        keys[tenant] = keyring.key(tenant, "publish")
        server.upload("sentiment", make_adapter(tiny, seed=seed), key=keys[tenant])
    reader = keyring.key("acme", "classify")

    def ask_as(key: str, text: str) -> httpx2.Response:
        headers = bearer(key) | {"X-Request-ID": "chosen"}
        return server.client.post("/classify/sentiment", json={"inputs": text}, headers=headers).raise_for_status()

    ask_as(keys["zeta"], "of zeta")
    check_problem(correct(server, key=keys["acme"], request_id="chosen", label="positive"), 404, "not_found")
    ask_as(reader, "of acme")
    made = correct(server, key=reader, request_id="chosen", label="positive", who="ann")
    assert made.status_code == 201
    assert "of acme" not in made.text, "a reader learns no text by an id that it guesses"
    row = made.json()["id"]
    check_problem(correct(server, key=keys["zeta"], id=row, label="positive"), 404, "not_found", f"no row '{row}'")
    for params in ({"id": row}, {"who": "ann"}, {"task": "sentiment"}):
        deleted = server.client.delete("/feedback", params=params, headers=bearer(keys["zeta"])).json()["deleted"]
        assert deleted == (1 if "task" in params else 0), "only its own, of its own task"
    page = server.client.get(
        "/tasks/sentiment/feedback", params={"view": "corrections"}, headers=bearer(keys["acme"])
    ).json()
    assert [list(row["input"].values()) for row in page["rows"]] == [["of acme"]]
    for path in ("/tasks/sentiment/feedback", "/tasks/sentiment/feedback/export", "/feedback"):
        check_problem(server.client.get(path, headers=bearer(reader)), 403, "forbidden", "needs 'publish'")

    for number in range(100):
        text = f"text {number} " + "and more " * 40
        answer = correct(server, key=reader, task="sentiment", input=text, label="positive")
        if answer.status_code != 201:
            break
    check_problem(answer, 409, "quota_exceeded", "tenant 'acme' would have", "its limit is 20000")
    state = server.client.get("/feedback", headers=bearer(keys["acme"])).json()
    assert state["kept_bytes"] + state["corrected_bytes"] <= state["max_bytes"] == 20_000
    assert correct(server, key=keys["zeta"], task="sentiment", input="a", label="positive").status_code == 201


@pytest.mark.slow
def test_a_promotion_may_require_that_corrections_are_answered_better(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("topic", make_adapter(tiny, TOPIC))
    server.upload("topic", make_adapter(tiny, TOPIC, seed=3), alias="")

    def promote(version: int, **body: object) -> httpx2.Response:
        return server.client.post("/tasks/topic/promote", json={"version": version, "force": True, **body})

    check_problem(promote(2, corrections=True), 409, "retention_off")
    server.client.patch("/admin/tenants/default", json={"retention_days": 1}).raise_for_status()
    check_problem(promote(2, corrections=True), 409, "promotion_refused", "task 'topic' has no corrections")
    words = ("gripping", "film", "sports", "business", "world", "quick", "brown", "fox", "capital", "rains")
    texts = [f"the {word} text" for word in words] * 4  # more than are answered at once
    texts = [f"{text} {number}" for number, text in enumerate(texts)]
    theirs = server.classify("topic@2", texts).json()["predictions"]
    ours = server.classify("topic@1", texts).json()["predictions"]
    different = sum(one["label"] != other["label"] for one, other in zip(ours, theirs, strict=True))
    assert 0 < different < len(texts)
    for text, answer in zip(texts, theirs, strict=True):  # the second version is always right
        assert correct(server, task="topic", input=text, label=answer["label"]).status_code == 201

    done = promote(2, corrections=True)
    assert done.status_code == 200, done.text
    assert done.json()["corrections"].startswith(f"+{different / len(texts):.3f} on the same {len(texts)} rows")
    refused = promote(1, corrections=True)
    check_problem(refused, 409, "promotion_refused", "corrections: the version has", "production 1", "expected above 0")
    assert refused.json()["current"] == 1.0
    assert refused.json()["candidate"] == pytest.approx(1 - different / len(texts))
    assert server.client.get("/tasks/topic").json()["aliases"]["production"] == 2
    check_problem(promote(9, corrections=True), 404, "not_found")
    assert promote(1).status_code == 200, "only if it is asked for"
