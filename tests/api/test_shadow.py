"""A shadow version through a real server: its answers are counted exactly, and no caller ever notices it."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from support.adapters import SENTIMENT, TOPIC, make_adapter
from support.load import held_model_thread
from support.server import RunningServer, sample
from support.waiting import eventually

from adapters import PromptAdapter, TaskSpec
from backbone import Backbone, PackedBatch, PackedRow, pack
from service.inference.predictions import Shadowed
from service.monitoring.shadow_report import compared, outcomes, reports

Serve = Callable[..., RunningServer]
WORDS = ("gripping", "film", "sports", "business", "world", "quick", "brown", "fox", "capital", "rains", "wet", "news")
TEXTS = [f"the {first} and {second} {number}" for number, first in enumerate(WORDS) for second in WORDS[:4]]


def answers_alone(backbone: Backbone, adapter: PromptAdapter, text: str) -> dict[str, float]:
    """Each label's probability, computed by itself without any server."""
    rendered = adapter.spec.render(text)
    tokens = backbone.tokenizer.tokenize([rendered], max_tokens=64, truncation="error")[0].token_ids
    with torch.inference_mode():
        encoded = backbone.encode(
            pack([PackedRow(range(adapter.num_virtual_tokens), tokens)]), torch.from_numpy(adapter.prompt.copy())
        )
        scores = backbone.score(encoded, [backbone.label_trie(adapter.spec.label_words)])[0]
    return dict(zip(adapter.spec.label_names, np.exp(scores.double().numpy()).tolist(), strict=True))


def best(probabilities: dict[str, float]) -> str:
    return max(probabilities, key=lambda label: probabilities[label])


def shadowed(serve: Serve, first: PromptAdapter, second: PromptAdapter, **changes: object) -> RunningServer:
    server = serve(**changes)
    server.upload("topic", first)
    server.upload("topic", second, alias="")
    server.client.put("/tasks/topic/traffic", json={"shadow": 2}).raise_for_status()
    return server


def told(server: RunningServer) -> dict[str, Any]:
    """What `/tasks/topic` says of its latest pair; nothing where no row was offered yet."""
    shadows = server.client.get("/tasks/topic").raise_for_status().json()["shadows"]
    return shadows[0] if shadows else Counter()


@pytest.mark.parametrize("result_cache_bytes", [0, 1 << 20])
@pytest.mark.slow
def test_the_flips_are_those_of_both_versions_computed_alone(
    serve: Serve, tiny: Backbone, result_cache_bytes: int
) -> None:
    first, second = make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3)
    server = shadowed(serve, first, second, result_cache_bytes=result_cache_bytes)
    asked = [*TEXTS, *TEXTS[:7]]  # rows that the result cache answers are compared too
    for start in range(0, len(asked), 5):
        answer = server.classify("topic", asked[start : start + 5], top_k=1).json()
        assert answer["version"] == 1
    expected: Counter[tuple[str, str]] = Counter()
    shift = 0.0
    for text in asked:
        ours, theirs = answers_alone(tiny, first, text), answers_alone(tiny, second, text)
        expected[best(ours), best(theirs)] += 1
        shift += theirs[best(ours)] - ours[best(ours)]
    eventually(lambda: told(server)["rows"] == len(asked))
    report = told(server)
    flips = {pair: rows for pair, rows in expected.items() if pair[0] != pair[1]}
    assert len(flips) >= 2, "the adapters' answers must differ for this to say anything"
    assert {(flip["primary"], flip["shadow"]): flip["rows"] for flip in report["flips"]} == flips
    assert [flip["rows"] for flip in report["flips"]] == sorted(flips.values(), reverse=True)
    assert report["agreement"] == pytest.approx(1 - sum(flips.values()) / len(asked))
    assert report["mean_score_shift"] == pytest.approx(shift / len(asked), abs=1e-4)
    assert (report["primary"], report["shadow"], report["dropped"], report["failed"]) == (1, 2, 0, 0)
    assert sample(server, 'superpos_shadow_rows_total{outcome="flipped"}') == sum(flips.values())
    agreed = len(asked) - sum(flips.values())
    assert sample(server, 'superpos_shadow_rows_total{outcome="agreed"}') == agreed


@pytest.mark.slow
def test_replicas_count_together_and_the_numbers_outlive_them(serve: Serve, tiny: Backbone) -> None:
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3))
    other = serve()
    eventually(lambda: other.client.get("/tasks/topic").json()["traffic"]["shadow"] == 2)
    server.classify("topic", TEXTS[:3])
    other.classify("topic", TEXTS[3:8])
    for each in (server, other):
        eventually(lambda each=each: told(each)["rows"] == 8)


def test_refs_that_name_a_version_are_not_shadowed(serve: Serve, tiny: Backbone) -> None:
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3))
    for ref in ("topic@1", "topic@2"):
        server.classify(ref, TEXTS[:3]).raise_for_status()
    server.classify("topic@production", TEXTS[:2]).raise_for_status()
    eventually(lambda: told(server)["rows"] == 2)
    server.client.delete("/tasks/topic/traffic").raise_for_status()
    server.classify("topic", TEXTS[:3]).raise_for_status()
    server.classify("topic", TEXTS[:3]).raise_for_status()
    assert told(server)["rows"] == 2


@pytest.mark.slow
def test_a_canary_and_a_shadow_are_compared_under_their_own_pair(serve: Serve, tiny: Backbone) -> None:
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3))
    server.upload("topic", make_adapter(tiny, TOPIC, seed=4), alias="")
    server.client.put("/tasks/topic/traffic", json={"canary": 3, "percent": 100, "shadow": 2}).raise_for_status()
    assert server.classify("topic", TEXTS[:4]).json()["version"] == 3
    eventually(lambda: told(server)["rows"] == 4)
    assert (told(server)["primary"], told(server)["shadow"]) == (3, 2)


@pytest.mark.parametrize(
    "spec",
    [
        TaskSpec(template="{other} text", labels=TOPIC.labels, max_tokens=64),
        TaskSpec(template=TOPIC.template, labels=TOPIC.labels, max_tokens=9),
    ],
)
@pytest.mark.slow
def test_a_shadow_that_cannot_answer_is_counted_and_nobody_notices(
    serve: Serve, tiny: Backbone, spec: TaskSpec
) -> None:
    """A version with another field, or with a token limit that the texts pass."""
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, spec, seed=3))
    alone = [server.classify("topic@1", {"text": text}).json()["predictions"][0] for text in TEXTS[:6]]
    for text, expected in zip(TEXTS[:6], alone, strict=True):
        answer = server.classify("topic", {"text": text})
        assert (answer.status_code, answer.json()["predictions"]) == (200, [expected])
    eventually(lambda: told(server)["failed"] == 6)
    assert told(server)["rows"] == 0
    assert sample(server, 'superpos_shadow_rows_total{outcome="failed"}') == 6


@pytest.mark.slow
def test_a_shadow_that_is_tripped_leaves_every_answer_alone(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3, num_virtual_tokens=7)
    server = shadowed(serve, first, second, breaker_failures=2)
    sound = server.app.state.runtime.backbone.encode

    def encode(packed: PackedBatch, prompts: torch.Tensor, **options: Any) -> Any:
        if len(packed.prompt_rows) % 10:  # no row of the first version's
            raise RuntimeError("this prompt breaks the model")
        return sound(packed, prompts, **options)

    monkeypatch.setattr(server.app.state.runtime.backbone, "encode", encode)
    for text in TEXTS[:20]:
        answer = server.classify("topic", text).raise_for_status().json()
        assert answer["version"] == 1
        assert answer["predictions"][0]["scores"] == pytest.approx(answers_alone(tiny, first, text), abs=1e-4)
    eventually(lambda: told(server)["failed"] == 20)
    assert server.client.get("/healthz/ready").json()["tripped_adapters"] == 1


@pytest.mark.slow
def test_a_shadow_never_holds_up_a_caller(serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one whose rows it computes, though the model stands still, nor one who comes after it."""
    first, second = make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3, num_virtual_tokens=7)
    server = shadowed(serve, first, second, result_cache_bytes=1 << 20)
    server.classify("topic@1", TEXTS[0]).raise_for_status()  # remembered from now on
    runtime = server.app.state.runtime
    batches: list[int] = []
    sound = runtime.backbone.encode

    def encode(packed: PackedBatch, prompts: torch.Tensor, **options: Any) -> Any:
        batches.append(len(packed.prompt_rows))
        return sound(packed, prompts, **options)

    monkeypatch.setattr(runtime.backbone, "encode", encode)
    with ThreadPoolExecutor(1) as pool:
        with held_model_thread(server, tiny):
            batches.clear()
            assert server.classify("topic", TEXTS[0]).json()["predictions"][0]["cached"]
            eventually(lambda: runtime.inference.engine._inbox.qsize() == 1)
            assert runtime.monitoring.shadow.rows == 1
            late = pool.submit(server.classify, "topic@1", TEXTS[1:3])
            eventually(lambda: runtime.inference.engine._inbox.qsize() == 2)
        assert late.result(30).status_code == 200
    eventually(lambda: told(server)["rows"] == 1)
    assert batches == [20, 7]


@pytest.mark.slow
def test_what_finds_no_room_is_dropped_and_counted(serve: Serve, tiny: Backbone) -> None:
    """A queue of four rows leaves its shadows one: of a request of three, at once with another's, one is too many."""
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3), max_queue_rows=4)
    runtime = server.app.state.runtime
    with runtime.monitoring.shadow._admission.admit("default", rows=1, tokens=1):
        assert server.classify("topic", TEXTS[:3]).status_code == 200
        eventually(lambda: told(server)["dropped"] == 3)
    assert sample(server, 'superpos_shadow_rows_total{outcome="dropped"}') == 3
    server.classify("topic", TEXTS[:3]).raise_for_status()
    eventually(lambda: told(server)["rows"] == 3)


@pytest.mark.slow
def test_a_shadow_that_is_cancelled_before_its_first_step_is_counted_as_dropped(serve: Serve, tiny: Backbone) -> None:
    """The rows that a stopping server offers last are in the report too."""
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, TOPIC, seed=3))
    runtime = server.app.state.runtime
    offered: list[Shadowed] = []
    shadow, offer = runtime.monitoring.shadow, runtime.monitoring.shadow.offer
    runtime.classifier._shadow = offered.append
    assert server.classify("topic", TEXTS[:3]).status_code == 200
    done = threading.Event()

    def offer_and_cancel() -> None:
        offer(offered[0])
        for task in shadow._tasks:
            task.cancel()
        done.set()

    server.server.servers[0].get_loop().call_soon_threadsafe(offer_and_cancel)
    assert done.wait(10)
    eventually(lambda: told(server)["dropped"] == 3)


def test_another_set_of_labels_is_compared_by_name(serve: Serve, tiny: Backbone) -> None:
    other = SENTIMENT.model_copy(update={"template": TOPIC.template})
    server = shadowed(serve, make_adapter(tiny, TOPIC), make_adapter(tiny, other))
    given = server.classify("topic", TEXTS[:5]).json()["predictions"]
    eventually(lambda: told(server)["rows"] == 5)
    assert told(server)["agreement"] == 0
    assert {flip["shadow"] for flip in told(server)["flips"]} <= {"negative", "positive"}
    assert told(server)["mean_score_shift"] == pytest.approx(-np.mean([row["score"] for row in given]), abs=1e-6)


def test_counters_of_versions_that_are_gone_are_told_no_more() -> None:
    counts = {
        ("shadow", "acme", "sst2", "1:2", "agreed"): 3.0,
        ("shadow", "acme", "sst2", "1:2", "flip", "a", "b"): 1.0,
        ("shadow", "acme", "sst2", "1:10", "dropped"): 4.0,
    }
    latest, first = reports(counts, [1, 2, 10])
    assert (latest.shadow, latest.rows, latest.agreement, latest.mean_score_shift, latest.dropped) == (
        10,
        0,
        None,
        None,
        4,
    )
    assert (first.shadow, first.rows, first.agreement) == (2, 4, 0.75)
    assert [report.shadow for report in reports(counts, [1, 2])] == [2]


def test_outcomes_add_up_to_the_rows() -> None:
    counts = {("agreed",): 3.0, ("flip", "a", "b"): 2.0, ("flip", "b", "a"): 1.0, ("shift",): -0.5}
    assert outcomes(counts) == {"agreed": 3, "flipped": 3}
    assert compared([], []) == {}
