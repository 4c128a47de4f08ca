"""The drift watch of a real server: `/tasks/{task}`, the metrics, several replicas, real rows."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.adapters import TOPIC, make_adapter
from support.drift import drift_of, look, profile_from, with_validation
from support.redis import RedisServer
from support.server import RunningServer, sample
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.files import bundled_adapters, from_files
from backbone import Backbone

Serve = Callable[..., RunningServer]
WORDS = ("gripping", "film", "sports", "business", "world", "quick", "brown", "fox", "capital", "rains", "wet", "news")
TEXTS = [f"the {first} and {second} {number}" for number, first in enumerate(WORDS) for second in WORDS]
TEXTS += [*WORDS[:6]] * 10


@pytest.fixture(scope="module")
def asked(shared_server: RunningServer, tiny: Backbone) -> list[tuple[str, str, float]]:
    """Each text with the label and score that a server gives it."""
    shared_server.upload("plain", make_adapter(tiny, TOPIC))
    answers = shared_server.classify("plain", TEXTS).json()["predictions"]
    return [(text, row["label"], row["score"]) for text, row in zip(TEXTS, answers, strict=True)]


@pytest.fixture(scope="module")
def adapter(tiny: Backbone, asked: list[tuple[str, str, float]]) -> PromptAdapter:
    """Its profile is of what the server answers to these texts."""
    profile = profile_from([(label, score) for _, label, score in asked], TOPIC.label_names)
    return with_validation(make_adapter(tiny, TOPIC), profile)


@pytest.fixture(scope="module")
def skewed(asked: list[tuple[str, str, float]]) -> list[str]:
    """As many texts, all of the commonest label."""
    labels = [label for _, label, _ in asked]
    common = max(set(labels), key=labels.count)
    assert labels.count(common) < 0.8 * len(labels), "the adapter's answers must differ for this to say anything"
    found = [text for text, label, _ in asked if label == common]
    return (found * 10)[:250]


@pytest.mark.slow
def test_the_validation_rows_are_stable_and_a_skewed_part_of_them_is_shifted(
    serve: Serve, adapter: PromptAdapter, skewed: list[str]
) -> None:
    server = serve()
    for task in ("same", "skewed"):
        server.upload(task, adapter)
    before = drift_of(server, "same")
    assert before is not None
    assert (before["verdict"], before["rows"], before["label_psi"]) == ("not_enough_rows", 0, None)
    server.classify("same", TEXTS, top_k=1).raise_for_status()
    server.classify("skewed", skewed).raise_for_status()
    same, other = drift_of(server, "same"), drift_of(server, "skewed")
    assert same is not None
    assert other is not None
    assert (same["verdict"], same["rows"], same["version"], same["min_rows"]) == ("stable", len(TEXTS), 1, 200)
    assert same["label_psi"] == pytest.approx(0, abs=1e-9)
    assert same["confidence_psi"] == pytest.approx(0, abs=0.01)  # a score may lie on a bin's edge
    assert (other["verdict"], other["rows"]) == ("shifted", len(skewed))
    assert other["label_psi"] > 0.25
    look(server)
    assert sample(server, "superpos_drift_tasks") == 2
    assert sample(server, "superpos_drift_tasks_shifted") == 1
    assert sample(server, "superpos_drift_label_psi_max") == pytest.approx(other["label_psi"])
    worst = max(same["confidence_psi"], other["confidence_psi"])
    assert sample(server, "superpos_drift_confidence_psi_max") == pytest.approx(worst)


@pytest.mark.slow
def test_an_adapter_without_a_profile_is_not_watched(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("topic", make_adapter(tiny, TOPIC))
    server.classify("topic", TEXTS).raise_for_status()
    body = server.client.get("/tasks/topic").json()
    assert body["drift"] is None
    assert body["current"]["validation"] is None
    look(server)
    assert sample(server, "superpos_drift_tasks") == 0


@pytest.mark.slow
def test_a_task_without_a_production_version_has_no_drift(serve: Serve, adapter: PromptAdapter) -> None:
    server = serve()
    server.upload("topic", adapter, alias="blue")
    assert drift_of(server, "topic") is None


@pytest.mark.slow
def test_two_replicas_tell_what_both_answered(
    serve: Serve, adapter: PromptAdapter, skewed: list[str], redis_server: RedisServer
) -> None:
    place = redis_server.place()
    one, two = serve(registry=place), serve(registry=place)
    one.upload("topic", adapter)
    eventually(lambda: two.client.get("/tasks/topic").is_success)
    for server in (one, two):
        server.classify("topic", skewed[:120]).raise_for_status()
        own = drift_of(server, "topic")
        assert own is not None
        assert own["rows"] >= 120
    for server in (one, two):
        eventually(lambda server=server: drift_of(server, "topic")["rows"] == 240)
        told = drift_of(server, "topic")
        assert told is not None
        assert told["verdict"] == "shifted"
        look(server)
        assert sample(server, "superpos_drift_tasks_shifted") == 1


@pytest.mark.slow
def test_a_canary_and_a_shadow_do_not_mix_with_production(
    serve: Serve, tiny: Backbone, adapter: PromptAdapter, skewed: list[str]
) -> None:
    server = serve()
    assert adapter.manifest.validation is not None
    server.upload("topic", adapter)
    for seed in (3, 4):
        server.upload(
            "topic", with_validation(make_adapter(tiny, TOPIC, seed=seed), adapter.manifest.validation), alias=""
        )
    traffic = {"canary": 2, "percent": 100, "shadow": 3}
    server.client.put("/tasks/topic/traffic", json=traffic).raise_for_status()
    assert server.classify("topic", skewed[:30]).json()["version"] == 2
    eventually(lambda: [pair["rows"] for pair in server.client.get("/tasks/topic").json()["shadows"]] == [30])
    assert (drift_of(server, "topic") or {})["rows"] == 0
    server.classify("topic@1", skewed[:20]).raise_for_status()
    assert (drift_of(server, "topic") or {})["rows"] == 20
    server.client.put("/tasks/topic/aliases/production", json={"version": 2}).raise_for_status()
    assert (drift_of(server, "topic") or {})["rows"] == 30
    server.client.put("/tasks/topic/aliases/production", json={"version": 3}).raise_for_status()
    assert (drift_of(server, "topic") or {})["rows"] == 0


@pytest.mark.slow
def test_the_server_looks_by_itself_and_again_after_the_registry_was_away(
    serve: Serve,
    adapter: PromptAdapter,
    skewed: list[str],
    start_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.monitoring.drift_monitor._INTERVAL_S", 0.02)
    redis = start_redis()
    server = serve(registry=redis.place())
    server.upload("topic", adapter)
    server.classify("topic", skewed).raise_for_status()
    eventually(lambda: sample(server, "superpos_drift_tasks_shifted") == 1)
    seen = server.app.state.runtime.monitoring.drift.seen
    redis.stop()
    eventually(lambda: server.app.state.runtime.registry.sync.degraded)
    server.classify("topic", skewed).raise_for_status()
    assert sample(server, "superpos_drift_tasks_shifted") == 1
    redis.start()
    watched = ("default", "topic", 1)
    eventually(
        lambda: server.app.state.runtime.monitoring.drift.seen.reports[watched].rows > seen.reports[watched].rows
    )


@pytest.mark.slow
@pytest.mark.data
def test_sst2s_validation_rows_are_stable_and_its_negative_ones_shifted(serve: Serve, data_dir: Path) -> None:
    rows = pq.read_table(data_dir / "sst2" / "validation.parquet").to_pylist()
    server = serve(backbone="embedded", result_cache_bytes=1 << 20)
    server.upload("negatives", from_files(bundled_adapters()["sst2"]))  # the same digest: answers are remembered
    server.classify("sst2", [row["sentence"] for row in rows[:220]]).raise_for_status()
    negatives = [row["sentence"] for row in rows if row["label"] == 0][:205]
    server.classify("negatives", negatives).raise_for_status()
    stable, shifted = drift_of(server, "sst2"), drift_of(server, "negatives")
    assert stable is not None
    assert shifted is not None
    assert (stable["verdict"], stable["rows"]) == ("stable", 220)
    assert (shifted["verdict"], shifted["rows"]) == ("shifted", 205)
