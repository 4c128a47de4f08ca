"""OpenAI's moderation: tasks and their labels are the categories."""

from collections.abc import Iterator

import openai
import pytest
from support.adapters import TOPIC, TOPICS, make_adapter
from support.server import RunningServer

from backbone import Backbone

TEXTS = ["a gripping film", "flat and overlong", "it rains"]


@pytest.fixture(scope="module")
def server(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """With a task of four labels, of which one applies, and a multi-label task."""
    shared_server.upload("topic", make_adapter(tiny, TOPIC))
    shared_server.upload("topics", make_adapter(tiny, TOPICS, readout="soft"))
    return shared_server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def predictions(server: RunningServer, ref: str) -> list[dict]:
    return server.classify(ref, TEXTS).raise_for_status().json()["predictions"]


def test_openais_client_flags_texts_by_the_second_label_of_a_binary_task(
    server: RunningServer, client: openai.OpenAI
) -> None:
    answer = client.moderations.create(model="sentiment", input=TEXTS)
    native = predictions(server, "sentiment")
    assert (answer.model, answer.id[:5]) == ("sentiment", "modr-")
    assert [result.flagged for result in answer.results] == [row["label"] == "positive" for row in native]
    for result, row in zip(answer.results, native, strict=True):
        assert result.categories.model_extra == {"sentiment": row["label"] == "positive"}
        assert result.category_scores.model_extra == {"sentiment": row["scores"]["positive"]}
        assert result.category_applied_input_types.model_extra == {"sentiment": ["text"]}


@pytest.mark.slow
def test_one_text_and_flags_of_several_tasks(server: RunningServer, client: openai.OpenAI) -> None:
    answer = client.moderations.create(model="sentiment/negative, topic/sports,topics", input=TEXTS[0])
    (result,) = answer.results
    sentiment, topic, topics = (predictions(server, ref)[0] for ref in ("sentiment", "topic", "topics"))
    assert result.categories.to_dict() == {
        "sentiment/negative": sentiment["label"] == "negative",
        "topic/sports": topic["label"] == "sports",
        **{label: label in topics["labels"] for label in TOPICS.label_names},
    }
    assert result.category_scores.to_dict() == {
        "sentiment/negative": sentiment["scores"]["negative"],
        "topic/sports": topic["scores"]["sports"],
        **{label: topics["scores"][label] for label in TOPICS.label_names},
    }
    assert result.flagged == any(result.categories.to_dict().values())


def test_a_task_is_asked_once_for_all_its_flags(server: RunningServer, client: openai.OpenAI) -> None:
    rows = server.settings.max_rows_per_request
    flags = ",".join(f"topic/{label}" for label in TOPIC.label_names)
    answer = client.moderations.create(model=flags, input=["x"] * rows)
    assert len(answer.results) == rows
    assert all(sum(result.categories.to_dict().values()) == 1 for result in answer.results)


def test_the_default_task_flags_when_no_model_is_named(server: RunningServer, client: openai.OpenAI) -> None:
    headers = {"X-Superpos-Task": "sentiment"}
    answer = client.moderations.create(input=TEXTS[0], extra_headers=headers)
    assert answer.model == "sentiment"
    with pytest.raises(openai.UnprocessableEntityError, match="no task: name it in model"):
        client.moderations.create(input=TEXTS[0])


def test_long_texts_are_cut_only_when_they_may_be_and_said_to_be(server: RunningServer) -> None:
    long = {"model": "sentiment,topics", "input": ["short", "flat " * 200]}
    post = server.client.post
    assert post("/v1/moderations", json=long).status_code == 422
    answer = post("/v1/moderations", json={**long, "truncate_prompt_tokens": -1, "truncation_side": "left"})
    warnings = answer.raise_for_status().headers["X-Superpos-Warning"].split(", ")
    assert [warning.partition(";lost_tokens=")[0] for warning in warnings] == ["1", "1"]
    assert [warning.rpartition(";task=")[2] for warning in warnings] == ['"sentiment"', '"topics"']


@pytest.mark.parametrize(
    ("model", "status", "mention"),
    [
        ("topic", 422, "task 'topic' has 4 labels, of which one applies to a text; name the one"),
        ("topic/weather", 422, "task 'topic' has no label 'weather', expected one of 'world'"),
        ("topic/", 422, "no label ''"),
        ("sentiment,sentiment@1", 422, "two flags have the category 'sentiment'"),
        ("sentiment,nothing", 404, "no task 'nothing'"),
        ("", 400, "''"),
        (",".join(["sentiment"] * 2 + [f"t{n}" for n in range(32)]), 422, "model names 33 tasks, expected at most 32"),
        ("a," * 5_000, 422, "body.model"),
    ],
)
def test_flags_that_cannot_be_are_refused_as_a_whole(
    server: RunningServer, model: str, status: int, mention: str
) -> None:
    response = server.client.post("/v1/moderations", json={"model": model, "input": TEXTS})
    assert response.status_code == status
    assert mention in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "mention"),
    [
        ([], "expected a string or a list of strings"),
        ([{"type": "image_url", "image_url": {"url": "http://x"}}], "images are not moderated"),
        ([0] * 1_000, "expected a string or a list of strings"),
        (["x"] * 129, "129 items for 2 tasks, 258 rows, expected at most 256"),
        ("", "empty"),
    ],
)
def test_input_that_is_no_text_or_too_much_is_refused(server: RunningServer, value: object, mention: str) -> None:
    response = server.client.post("/v1/moderations", json={"model": "sentiment,topics", "input": value})
    assert response.status_code == 422
    assert mention in response.json()["error"]["message"]
