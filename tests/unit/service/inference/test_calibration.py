"""An adapter's temperature and abstain threshold: in every answer's scores, never in its log-probabilities."""

import dataclasses
import math
from typing import Any

import pytest
from support.adapters import TOPIC, make_adapter
from support.server import RunningServer

from adapters import PromptAdapter, TaskSpec
from adapters.calibration import Calibration
from backbone import Backbone

TEXT = "the world of sports and business"
TEMPERATURES = {"cool": 4.0, "hot": 0.25}
WORDS = ("world", "sports", "business", "science", "city", "film", "rain", "fox")
MANY = TaskSpec(
    template="text: {text}", labels={f"{a} {b}": f"{a} {b}" for a in WORDS for b in WORDS if a != b}, max_tokens=64
)


def calibrated(adapter: PromptAdapter, temperature: float, threshold: float | None = None) -> PromptAdapter:
    calibration = Calibration(temperature=temperature, abstain_threshold=threshold)
    return dataclasses.replace(adapter, manifest=adapter.manifest.model_copy(update={"calibration": calibration}))


@pytest.fixture(scope="module")
def server(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """The same prompts with several temperatures, of four labels and of 56."""
    for name, spec in (("topic", TOPIC), ("many", MANY)):
        plain = make_adapter(tiny, spec)
        shared_server.upload(name, plain)
        for word, temperature in TEMPERATURES.items():
            shared_server.upload(f"{name}-{word}", calibrated(plain, temperature))
    return shared_server


def ask(server: RunningServer, ref: str, **body: object) -> dict[str, Any]:
    prediction: dict[str, Any] = server.classify(ref, TEXT, **body).raise_for_status().json()["predictions"][0]
    return prediction


def softened(logprobs: dict[str, float], temperature: float) -> dict[str, float]:
    """softmax(log p / temperature), as the artefact defines it."""
    weights = {label: math.exp(value / temperature) for label, value in logprobs.items()}
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


@pytest.mark.parametrize("task", ["topic", "many"])
@pytest.mark.parametrize("word", list(TEMPERATURES))
@pytest.mark.parametrize("top_k", [1, 3, 1_000])
def test_scores_are_calibrated_over_all_labels_and_log_probabilities_are_raw(
    server: RunningServer, task: str, word: str, top_k: int
) -> None:
    raw = ask(server, task, top_k=1_000)["logprobs"]
    answer = ask(server, f"{task}-{word}", top_k=top_k)
    assert list(answer["logprobs"]) == list(answer["scores"]) == list(raw)[:top_k]
    expected = softened(raw, TEMPERATURES[word])
    for label, score in answer["scores"].items():
        assert score == pytest.approx(expected[label], abs=1e-5)
        assert answer["logprobs"][label] == pytest.approx(raw[label], abs=1e-4)
    assert answer["score"] == answer["scores"][answer["label"]]
    assert answer["score"] != pytest.approx(math.exp(raw[answer["label"]]), abs=1e-3), "the temperature must show"


@pytest.mark.parametrize("word", list(TEMPERATURES))
def test_a_task_abstains_by_its_calibrated_score(server: RunningServer, tiny: Backbone, word: str) -> None:
    """Thresholds between the raw and the calibrated probability: only the calibrated one decides."""
    plain, score = math.exp(max(ask(server, "topic")["logprobs"].values())), ask(server, f"topic-{word}")["score"]
    between = (plain + score) / 2
    task = f"strict-{word}"
    server.upload(task, calibrated(make_adapter(tiny, TOPIC), TEMPERATURES[word], between))
    for top_k in (1, 4):
        assert ask(server, task, top_k=top_k)["abstained"] is (score < between)
    assert {word: ask(server, f"strict-{word}")["abstained"]} == {word: word == "cool"}
    assert ask(server, f"topic-{word}")["abstained"] is False, "no threshold, no abstention"


def test_several_tasks_at_once_are_calibrated_each_by_its_own(server: RunningServer) -> None:
    refs = ["topic", "topic-cool", "topic-hot", "many-cool"]
    body = {"tasks": refs, "inputs": TEXT, "top_k": 3}
    results = server.client.post("/classify", json=body).raise_for_status().json()["results"]
    for ref, result in zip(refs, results, strict=True):
        alone = ask(server, ref, top_k=3)
        for numbers in ("scores", "logprobs"):
            assert result["predictions"][0][numbers] == pytest.approx(alone[numbers], abs=1e-5)


def test_every_face_answers_calibrated_numbers_and_raw_ones_where_they_are_asked_for(server: RunningServer) -> None:
    native = ask(server, "topic-cool")
    raw = ask(server, "topic")["logprobs"]
    assert native["logprobs"] == pytest.approx(raw, abs=1e-4)

    def post(path: str, **body: object) -> Any:
        return server.client.post(path, json=body).raise_for_status().json()

    def tei(*, raw_scores: bool) -> dict[str, float]:
        rows = post("/tei/topic-cool/predict", inputs=TEXT, raw_scores=raw_scores)
        return {row["label"]: row["score"] for row in rows}

    def vllm(*, use_activation: bool) -> dict[str, float]:
        data = post("/v1/classify", model="topic-cool", input=TEXT, use_activation=use_activation)["data"]
        return dict(zip(TOPIC.label_names, data[0]["probs"], strict=True))

    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    outputs = {row["name"]: row["data"] for row in post("/v2/models/topic-cool/infer", inputs=[tensor])["outputs"]}
    expected = softened(raw, TEMPERATURES["cool"])
    for scores in (
        tei(raw_scores=False),
        vllm(use_activation=True),
        dict(zip(TOPIC.label_names, outputs["probs"], strict=True)),
    ):
        assert scores == pytest.approx(expected, abs=1e-5)
    assert outputs["score"] == [pytest.approx(max(expected.values()), abs=1e-5)]
    for numbers in (tei(raw_scores=True), vllm(use_activation=False)):
        assert numbers == pytest.approx(raw, abs=1e-4)
