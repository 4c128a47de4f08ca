"""The compatibility faces: other servers' protocols, asked by their own clients, answer as the native route does."""

import json
import struct
from collections.abc import Callable, Iterator

import openai
import pytest
from huggingface_hub import InferenceClient
from support.adapters import PAIR, SENTIMENT, TOPIC, make_adapter
from support.http import tensors
from support.server import RunningServer

from backbone import Backbone

Serve = Callable[..., RunningServer]

TEXTS = ["a gripping film", "flat and overlong"]
PAIRS = [{"premise": "it rains", "hypothesis": "it is wet"}, {"premise": "yes", "hypothesis": "no"}]


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One for the module: no test here changes it."""
    return shared_server


@pytest.fixture(scope="module")
def topics(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """With a third task, of more labels and two versions, and its aliases."""
    shared_server.upload("topic", make_adapter(tiny, TOPIC))
    shared_server.upload("topic", make_adapter(tiny, TOPIC, seed=1), alias="canary")
    return shared_server


def _native(server: RunningServer, ref: str, inputs: object, **body: object) -> list[dict[str, object]]:
    response = server.classify(ref, inputs, **body)
    assert response.is_success, response.text
    return response.json()["predictions"]


def _listed(prediction: dict[str, object], numbers: str = "scores") -> list[dict[str, object]]:
    return [{"label": label, "score": score} for label, score in prediction[numbers].items()]


# Text Embeddings Inference


def _predict(server: RunningServer, ref: str, **body: object) -> object:
    response = server.client.post(f"/tei/{ref}/predict", json=body)
    assert response.is_success, response.text
    return response.json()


@pytest.mark.slow
def test_tei_answers_one_text_a_pair_and_a_batch_with_the_native_numbers(server: RunningServer) -> None:
    one, other = (_listed(prediction) for prediction in _native(server, "sentiment", TEXTS))
    assert _predict(server, "sentiment", inputs=TEXTS[0]) == one
    assert _predict(server, "sentiment", inputs=[TEXTS[0]]) == one
    assert _predict(server, "sentiment", inputs=[[text] for text in TEXTS]) == [one, other]
    pairs = [_listed(prediction) for prediction in _native(server, "pair", PAIRS)]
    batch = [list(pair.values()) for pair in PAIRS]
    assert _predict(server, "pair", inputs=batch[0]) == pairs[0], "two strings are a pair, not two texts"
    assert _predict(server, "pair", inputs=batch) == pairs


def test_tei_raw_scores_are_the_log_probabilities(server: RunningServer) -> None:
    native = _native(server, "sentiment", TEXTS[0])[0]
    assert _predict(server, "sentiment", inputs=TEXTS[0], raw_scores=True) == _listed(native, "logprobs")


def test_tei_cuts_long_texts_only_when_it_may_and_at_the_end_that_is_named(server: RunningServer) -> None:
    text = "flat " * 200 + "gripping"
    refused = server.client.post("/tei/sentiment/predict", json={"inputs": text})
    assert refused.status_code == 422
    for direction, side in (("left", "start"), ("Right", "end")):
        cut = _predict(server, "sentiment", inputs=text, truncate=True, truncation_direction=direction)
        assert cut == _listed(_native(server, "sentiment", text, truncate=side)[0])


@pytest.mark.slow
def test_teis_bare_routes_mean_the_task_of_the_header_or_the_setting(serve: Serve, tiny: Backbone) -> None:
    server = serve(default_task="sentiment")
    server.upload("sentiment", make_adapter(tiny))
    server.upload("topic", make_adapter(tiny, TOPIC))
    for task, headers in (("sentiment", {}), ("topic", {"X-Superpos-Task": "topic"})):
        bare = server.client.post("/predict", json={"inputs": TEXTS[0]}, headers=headers).json()
        assert bare == _listed(_native(server, task, TEXTS[0])[0])
        info = server.client.get("/info", headers=headers).json()
        assert info["model_id"] == task
        assert info == server.client.get(f"/tei/{task}/info").json()


def test_tei_without_a_task_says_how_to_name_one(server: RunningServer) -> None:
    response = server.client.post("/predict", json={"inputs": TEXTS[0]})
    assert response.status_code == 422
    assert "X-Superpos-Task" in response.json()["error"]


def test_teis_info_tells_labels_and_limits(server: RunningServer) -> None:
    info = server.client.get("/tei/sentiment/info").json()
    assert info["model_type"]["classifier"]["id2label"] == {"0": "negative", "1": "positive"}
    assert info["max_input_length"] == SENTIMENT.max_tokens
    assert info["max_client_batch_size"] == server.settings.max_rows_per_request
    assert info["model_sha"] == server.classify("sentiment", "x").json()["adapter"]
    health = server.client.get("/health")
    assert (health.status_code, health.content) == (200, b"")


def test_hugging_faces_client_gets_every_label(server: RunningServer) -> None:
    for path in ("", "/predict"):
        client = InferenceClient(f"{server.url}/tei/sentiment{path}")
        answer = client.text_classification(TEXTS[0])
        native = _native(server, "sentiment", TEXTS[0])[0]
        assert [(row.label, row.score) for row in answer] == list(native["scores"].items())
    best = client.text_classification(TEXTS[0], top_k=1)
    assert [row.label for row in best] == [native["label"]]
    raw = client.text_classification(TEXTS[0], function_to_apply="none")
    assert [row.score for row in raw] == list(native["logprobs"].values())


# vLLM and OpenAI


@pytest.fixture(scope="module")
def openai_client(topics: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{topics.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_vllms_classify_has_every_label_in_the_tasks_order(topics: RunningServer) -> None:
    response = topics.client.post(
        "/v1/classify", json={"model": "topic", "input": TEXTS}, headers={"X-Request-ID": "r1"}
    )
    body = response.json()
    native = _native(topics, "topic", TEXTS)
    assert [row["label"] for row in body["data"]] == [row["label"] for row in native]
    assert [row["probs"] for row in body["data"]] == [
        [row["scores"][label] for label in TOPIC.label_names] for row in native
    ]
    assert [(row["index"], row["num_classes"]) for row in body["data"]] == [(0, 4), (1, 4)]
    num_tokens = sum(row["tokens"] for row in native)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == num_tokens
    assert (body["id"], body["object"], body["model"]) == ("classify-r1", "list", "topic")


def test_vllms_classify_takes_one_text_raw_numbers_and_truncation(topics: RunningServer) -> None:
    text = "news " * 200
    long = {"model": "topic@canary", "input": text}
    assert topics.client.post("/v1/classify", json=long).status_code == 422
    asked = long | {"truncate_prompt_tokens": -1, "truncation_side": "left", "use_activation": False}
    data = topics.client.post("/v1/classify", json=asked).json()["data"]
    native = _native(topics, "topic@canary", text, truncate="start")[0]
    assert data[0]["probs"] == [native["logprobs"][label] for label in TOPIC.label_names]


def test_openais_client_lists_and_finds_models(topics: RunningServer, openai_client: openai.OpenAI) -> None:
    cards = {card.id: card for card in openai_client.models.list()}
    assert list(cards) == ["pair", "sentiment", "topic", "topic@canary"]
    digests = {ref: topics.classify(ref, "x").json()["adapter"] for ref in ("topic", "topic@canary")}
    assert {ref: cards[ref].root for ref in digests} == digests
    found = openai_client.models.retrieve("topic@canary")
    assert found == cards["topic@canary"]
    assert openai_client.models.retrieve("topic@2").root == digests["topic@canary"]


def test_openais_client_understands_a_refusal(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no task 'nothing'") as caught:
        openai_client.models.retrieve("nothing")
    assert (caught.value.type, caught.value.code) == ("not_found", "404")


# Open Inference Protocol


def test_an_oip_infer_answers_every_row_and_echoes_the_id(server: RunningServer) -> None:
    native = _native(server, "pair", PAIRS)
    body = {"id": "call-7", "inputs": tensors(PAIRS)}
    answer = server.client.post("/v2/models/pair/infer", json=body).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("pair", "1", "call-7")
    label, score, probs = answer["outputs"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": [row["label"] for row in native]}
    assert score == {"name": "score", "datatype": "FP32", "shape": [2], "data": [row["score"] for row in native]}
    assert (probs["name"], probs["shape"]) == ("probs", [2, 2])
    assert probs["data"] == [row["scores"][name] for row in native for name in PAIR.label_names]
    column = [{**tensor, "shape": [2, 1], "data": [[text] for text in tensor["data"]]} for tensor in body["inputs"]]
    again = server.client.post(
        "/v2/models/pair/versions/1/infer", json={"inputs": column, "outputs": [{"name": "score"}]}
    )
    assert again.json() == {"model_name": "pair", "model_version": "1", "outputs": [score]}


def test_an_oip_infer_takes_what_tritons_client_sends(server: RunningServer) -> None:
    """Seen with tritonclient 2.73 for a tensor in JSON: no Content-Type, a timeout in microseconds, binary output."""
    body = {
        "id": "7",
        "inputs": [{"name": "sentence", "shape": [2], "datatype": "BYTES", "data": TEXTS}],
        "parameters": {"timeout": 5_000_000, "binary_data_output": True},
    }
    response = server.client.post("/v2/models/sentiment/infer", content=json.dumps(body).encode())
    assert "Content-Type" not in response.request.headers
    native = _native(server, "sentiment", TEXTS)
    length = int(response.headers["Inference-Header-Content-Length"])
    sizes = [output["parameters"]["binary_data_size"] for output in json.loads(response.content[:length])["outputs"]]
    labels = [row["label"].encode() for row in native]
    assert response.content[length:][: sizes[0]] == b"".join(struct.pack("<I", len(each)) + each for each in labels)
    assert len(response.content) == length + sum(sizes)


@pytest.mark.slow
def test_oip_metadata_names_fields_labels_and_versions(topics: RunningServer) -> None:
    get = topics.client.get
    model = get("/v2/models/pair").json()
    assert [tensor["name"] for tensor in model["inputs"]] == ["premise", "hypothesis"]
    assert get("/v2/models/topic").json()["versions"] == ["1", "2"]
    topic = get("/v2/models/topic/versions/2").json()
    assert topic["parameters"]["labels"] == list(TOPIC.label_names)
    assert {tensor["name"]: tensor["shape"] for tensor in topic["outputs"]}["probs"] == [-1, 4]
    assert get("/v2").json()["name"] == "superpos"
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v2/models/topic/ready").json() == {"name": "topic", "ready": True}
    assert get("/v2/models/topic/versions/2/ready").is_success


@pytest.mark.parametrize(
    ("change", "mention"),
    [
        ({"inputs": tensors(PAIRS)[:1]}, "missing field 'hypothesis'"),
        ({"inputs": [*tensors(PAIRS), *tensors([{"more": "x"}, {"more": "y"}])]}, "unknown field 'more'"),
        ({"inputs": [*tensors(PAIRS)[:1], *tensors([{"hypothesis": "x"}])]}, "[1, 2] texts"),
        ({"inputs": tensors(PAIRS, shape=[3])}, "shape [3] and 2 texts"),
        ({"inputs": tensors(PAIRS, shape=[1, 2])}, "shape [1, 2] and 2 texts"),
        ({"inputs": tensors(PAIRS, datatype="FP32")}, "'FP32'"),
        ({"outputs": [{"name": "logits"}]}, "'logits'"),
        ({"parameters": {"priority": 1}}, "priority"),
    ],
)
@pytest.mark.slow
def test_an_oip_request_that_is_no_table_of_the_fields_is_refused(
    server: RunningServer, change: dict[str, object], mention: str
) -> None:
    response = server.client.post("/v2/models/pair/infer", json={"inputs": tensors(PAIRS), **change})
    assert response.status_code == 422
    assert mention in response.json()["error"]
