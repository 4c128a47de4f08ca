"""Multi-label tasks over HTTP: the native answer, the compatible APIs, fan-out, shadows and promotion."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from support.adapters import TOPIC, TOPICS, edited, make_adapter
from support.http import tensors
from support.server import RunningServer
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.calibration import Calibration
from adapters.exams import ROWS_SHA256
from adapters.files import MANIFEST, to_files
from backbone import Backbone

NAMES = list(TOPICS.label_names)
TEXTS = ["a gripping film", "sports and business", "the world of sports", "flat and overlong"]


def topics_adapter(backbone: Backbone, *thresholds: float, seed: int = 0, **data: float) -> PromptAdapter:
    made = make_adapter(backbone, TOPICS, seed=seed, readout="pooled", num_virtual_tokens=3)
    provenance = made.manifest.provenance.model_copy(update={"metrics": data, "data": {ROWS_SHA256: "rows"}})
    changes = {"calibration": Calibration(temperature=2.0, label_thresholds=thresholds), "provenance": provenance}
    return dataclasses.replace(made, manifest=made.manifest.model_copy(update=changes))


@pytest.fixture(scope="module")
def topics(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """Start a server with a multi-label task, and one with one label per text."""
    server = serve_module()
    server.upload("topics", topics_adapter(tiny, 0.0, 0.5, 1.0, report_accuracy=0.5))
    server.upload("topic", make_adapter(tiny, TOPIC))
    return server


def predictions(server: RunningServer, **body: object) -> list[dict[str, Any]]:
    answer = server.classify("topics", TEXTS, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_a_text_has_the_labels_that_reach_their_thresholds_and_every_label_a_probability(topics: RunningServer) -> None:
    for row in predictions(topics):
        scores = row["scores"]
        assert set(scores) == set(NAMES)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert abs(sum(scores.values()) - 1) > 1e-3
        assert row["labels"] == [name for name in scores if scores[name] >= {"world": 0, "sports": 0.5}.get(name, 1)]
        assert "world" in row["labels"]
        assert (row["label"], row["score"]) == next(iter(scores.items()))
        assert not row["abstained"]
        assert row["value"] is None


def test_labels_are_all_whatever_top_k_is_and_null_in_other_tasks(topics: RunningServer) -> None:
    for row, whole in zip(predictions(topics, top_k=1), predictions(topics), strict=True):
        assert len(row["scores"]) == 1
        assert row["labels"] == whole["labels"]
    (row,) = topics.classify("topic", "a film").json()["predictions"]
    assert row["labels"] is None


def test_a_fan_out_answers_tasks_of_both_kinds(topics: RunningServer) -> None:
    body = {"tasks": ["topics", "topic", "topics"], "inputs": TEXTS}
    first, other, second = topics.client.post("/classify", json=body).raise_for_status().json()["results"]
    assert first["predictions"] == second["predictions"]
    assert [row["labels"] for row in first["predictions"]] == [row["labels"] for row in predictions(topics)]
    assert all(sum(row["scores"].values()) == pytest.approx(1) for row in other["predictions"])


def test_tei_returns_every_labels_own_probability_and_refuses_a_softmax(topics: RunningServer) -> None:
    expected = [row["scores"] for row in predictions(topics)]
    body: dict[str, object] = {"inputs": [[text] for text in TEXTS]}
    for parameters in (None, {"function_to_apply": "sigmoid"}):
        answer = topics.client.post("/tei/topics/predict", json=body | {"parameters": parameters}).json()
        assert [{each["label"]: each["score"] for each in row} for row in answer] == expected
    for task, function, own in (("topics", "softmax", "sigmoid"), ("topic", "sigmoid", "softmax")):
        asked = body | {"parameters": {"function_to_apply": function}}
        refusal = topics.client.post(f"/tei/{task}/predict", json=asked)
        assert refusal.status_code == 422
        assert f"function_to_apply is '{function}', expected '{own}' or 'none'" in refusal.json()["error"]


def test_vllm_returns_every_labels_own_probability_and_the_most_probable_label(topics: RunningServer) -> None:
    answer = topics.client.post("/v1/classify", json={"model": "topics", "input": TEXTS}).raise_for_status().json()
    for row, expected in zip(answer["data"], predictions(topics), strict=True):
        assert row["probs"] == [expected["scores"][name] for name in NAMES]
        assert row["label"] == expected["label"]
        assert row["num_classes"] == 3


def test_open_inference_has_an_output_of_decisions(topics: RunningServer) -> None:
    body = {"inputs": tensors([{"text": text} for text in TEXTS])}
    answer = topics.client.post("/v2/models/topics/infer", json=body).raise_for_status().json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    decisions = [name in row["labels"] for row in predictions(topics) for name in NAMES]
    assert outputs["decisions"] == {"name": "decisions", "datatype": "BOOL", "shape": [4, 3], "data": decisions}
    described = topics.client.get("/v2/models/topics").json()["outputs"]
    assert {"name": "decisions", "datatype": "BOOL", "shape": [-1, 3]} in described
    other = topics.client.post("/v2/models/topic/infer", json=body).raise_for_status().json()
    assert "decisions" not in {output["name"] for output in other["outputs"]}


@pytest.mark.slow
def test_a_shadow_agrees_where_all_labels_do_and_flips_are_of_one_label(topics: RunningServer, tiny: Backbone) -> None:
    # the same probabilities under other thresholds: `world` is never given, `business` always
    topics.upload("topics", topics_adapter(tiny, 1.0, 0.5, 0.0), alias="")
    topics.client.put("/tasks/topics/traffic", json={"shadow": 2}).raise_for_status()
    given = predictions(topics)
    eventually(lambda: sum(s["rows"] for s in topics.client.get("/tasks/topics").json()["shadows"]) == len(TEXTS))
    (report,) = topics.client.get("/tasks/topics").json()["shadows"]
    assert report["agreement"] == 0
    assert sum(flip["rows"] for flip in report["flips"]) == len(given)
    for flip in report["flips"]:
        assert (flip["primary"], flip["shadow"]) in {("world", ""), ("", "business")}
    topics.client.put("/tasks/topics/traffic", json={}).raise_for_status()


def test_a_version_whose_score_is_worse_on_the_same_rows_is_not_promoted(topics: RunningServer, tiny: Backbone) -> None:
    for seed, accuracy, status in ((7, 0.4, 409), (8, 0.6, 200)):
        made = topics.upload(
            "topics", topics_adapter(tiny, 0.5, 0.5, 0.5, seed=seed, report_accuracy=accuracy), alias=""
        )
        answer = topics.client.post("/tasks/topics/promote", json={"version": made["version"]})
        assert answer.status_code == status, answer.text


def test_an_upload_of_a_multi_label_task_by_label_words_is_refused(topics: RunningServer, tiny: Backbone) -> None:
    single = make_adapter(tiny, TOPIC)
    files = edited(to_files(single), MANIFEST, lambda value: value["task"].update(kind="multi_label"))
    parts = [("files", (name, data)) for name, data in files.items()]
    refusal = topics.client.post("/tasks/topics/versions", files=parts)
    assert refusal.status_code == 422
    assert "kind 'multi_label' with readout 'words', expected 'soft', 'pooled' or 'joint'" in refusal.text
