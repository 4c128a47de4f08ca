"""What an answer holds: the best labels of a large set, the expected value of an ordinal one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.adapters import make_adapter
from support.server import RunningServer

from adapters import TaskSpec
from adapters.calibration import Calibration
from backbone import Backbone

Serve = Callable[..., RunningServer]

WORDS = ("world", "sports", "business", "science", "city", "film", "rain", "fox")
MANY = TaskSpec(
    template="text: {text}", labels={f"{a} {b}": f"{a} {b}" for a in WORDS for b in WORDS if a != b}, max_tokens=64
)
GRID = TaskSpec(
    template="text: {text}", labels={value: value for value in ("0", "0.5", "1", "2")}, kind="ordinal", max_tokens=64
)


@pytest.mark.slow
def test_a_large_label_set_answers_its_best_five_and_as_many_as_are_asked_for(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("many", make_adapter(tiny, MANY))
    everything = server.classify("many", "a film", top_k=1_000).json()["predictions"][0]
    assert len(everything["scores"]) == len(MANY.labels) == 56
    assert sum(everything["scores"].values()) == pytest.approx(1, abs=1e-5)
    for asked, expected in ((None, 5), (1, 1), (3, 3), (7, 7)):
        body = {} if asked is None else {"top_k": asked}
        best = server.classify("many", "a film", **body).json()["predictions"][0]
        assert list(best["scores"]) == list(everything["scores"])[:expected]
        for label, score in best["scores"].items():
            assert score == pytest.approx(everything["scores"][label], abs=1e-5)
            assert best["logprobs"][label] == pytest.approx(everything["logprobs"][label], abs=1e-4)
        assert best["label"] == everything["label"]


def test_a_calibrated_large_label_set_is_scaled_by_all_of_its_labels(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    plain = make_adapter(tiny, MANY)
    manifest = plain.manifest.model_copy(update={"calibration": Calibration(temperature=2.0)})
    server.upload("many", replace(plain, manifest=manifest))
    everything = server.classify("many", "a film", top_k=1_000).json()["predictions"][0]["scores"]
    best = server.classify("many", "a film").json()["predictions"][0]["scores"]
    assert sum(everything.values()) == pytest.approx(1, abs=1e-5)
    assert best == {label: pytest.approx(everything[label], abs=1e-6) for label in list(everything)[:5]}


def test_an_ordinal_task_answers_its_expected_value(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("grid", make_adapter(tiny, GRID))
    for body in ({}, {"top_k": 1}):
        answer = server.classify("grid", "a film", **body).json()["predictions"][0]
        scores = server.classify("grid", "a film").json()["predictions"][0]["scores"]
        expected = sum(float(label) * score for label, score in scores.items())
        assert answer["value"] == pytest.approx(expected, abs=1e-6)


def test_a_task_of_names_has_no_value(server: RunningServer) -> None:
    assert server.classify("sentiment", "a film").json()["predictions"][0]["value"] is None
