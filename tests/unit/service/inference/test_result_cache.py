"""The result cache: what counts as the same question, how much it may hold, and that nobody pays for a hit."""

import dataclasses
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from support.adapters import make_adapter
from support.load import held_model_thread
from support.server import RunningServer, sample

from backbone import Backbone
from service.inference.predictions import RowResult
from service.inference.result_cache import CacheKey, ResultCache

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
UNCUT: dict[str, int] = {}
Serve = Callable[..., RunningServer]


def key(text: str, digest: str = ONE, *, tenant: str = "acme", top_k: int | None = None) -> CacheKey:
    return CacheKey.of(tenant, digest, text, top_k=top_k)


def result(*scores: float, truncated: bool = False) -> RowResult:
    return RowResult(np.array(scores, np.float32), 1_000, {"text": 3} if truncated else {}, 0.0)


def test_an_answer_is_known_to_its_adapter_and_text_alone() -> None:
    cache = ResultCache(max_bytes=10_000)
    cache.put(key("text"), "error", result(-1, -2))
    known = cache.get(key("text"), "error")
    assert known is not None
    assert known.scores.tolist() == [-1, -2]
    assert cache.get(key("text", OTHER), "error") is None
    assert cache.get(key("text "), "error") is None


def test_a_key_has_the_tenant_and_every_part_that_an_answer_depends_on() -> None:
    cache = ResultCache(max_bytes=10_000)
    cache.put(key("text"), "error", result(-1, -2))
    others = [key("text", tenant="other"), key("text", OTHER), key("text "), key("text", top_k=5)]
    assert [cache.get(other, "error") for other in others] == [None] * 4
    assert {field.name for field in dataclasses.fields(CacheKey)} == {"tenant", "digest", "text_hash", "top_k", "cut"}


def test_a_whole_text_is_one_question_and_a_cut_one_as_many_as_it_has_ends() -> None:
    cache = ResultCache(max_bytes=10_000)
    cache.put(key("short"), "start", result(-1))
    cache.put(key("long"), "end", result(-2, truncated=True))
    assert all(cache.get(key("short"), truncation) for truncation in ("error", "start", "end"))
    assert cache.get(key("long"), "end")
    assert cache.get(key("long"), "start") is None
    assert cache.get(key("long"), "error") is None  # it is refused, not answered


def test_the_least_recently_asked_for_leaves_past_the_limit() -> None:
    one = ResultCache(max_bytes=10_000)
    one.put(key("x"), "error", result(-1, -2))
    cache = ResultCache(max_bytes=3 * one.size_bytes)
    for text in "abc":
        cache.put(key(text), "error", result(-1, -2))
    cache.get(key("a"), "error")
    cache.put(key("d"), "error", result(-1, -2))
    assert len(cache) == 3
    assert [text for text in "abcd" if cache.get(key(text), "error")] == ["a", "c", "d"]
    assert cache.size_bytes <= 3 * one.size_bytes


def test_an_answer_put_twice_or_larger_than_the_cache_takes_no_room() -> None:
    cache = ResultCache(max_bytes=1_000)
    cache.put(key("x"), "error", result(-1, -2))
    size = cache.size_bytes
    cache.put(key("x"), "error", result(-1, -2))
    assert (len(cache), cache.size_bytes) == (1, size)
    cache.put(key("huge"), "error", result(*[-1.0] * 1_000))
    assert cache.size_bytes <= 1_000


def test_without_room_nothing_is_kept_or_counted() -> None:
    cache = ResultCache(max_bytes=0)
    cache.put(key("x"), "error", result(-1, -2))
    assert cache.get(key("x"), "error") is None
    assert (len(cache), cache.size_bytes) == (0, 0)


@pytest.mark.parametrize("num_labels", [2, 150])
@pytest.mark.slow
def test_the_bytes_counted_are_the_bytes_held(num_labels: int) -> None:
    cache = ResultCache(max_bytes=1 << 30)
    batch = np.zeros((64, num_labels), np.float32)  # answers are views into a batch's
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5_000):
            cache.put(key(f"text {number}"), "error", RowResult(batch[number % 64], 300 + number, UNCUT, 0.0))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * held <= cache.size_bytes <= 1.5 * held


@pytest.mark.slow
def test_a_remembered_answer_is_the_same_flagged_and_needs_no_model(serve: Serve, tiny: Backbone) -> None:
    server = serve(result_cache_bytes=1 << 20, max_queue_rows=1)
    server.upload("sentiment", make_adapter(tiny))
    first = server.classify("sentiment", "a gripping film").json()["predictions"][0]
    assert first["cached"] is False
    with held_model_thread(server, tiny):
        answer = server.classify("sentiment", ["a gripping film"] * 9, top_k=1)
        assert answer.status_code == 200
        for again in answer.json()["predictions"]:
            assert again["cached"] is True
            assert again["scores"] == {first["label"]: first["score"]}
            assert again["tokens"] == first["tokens"]
    mixed = server.classify("sentiment", ["new", "a gripping film", "newer"]).json()["predictions"]
    assert [row["cached"] for row in mixed] == [False, True, False]
    assert mixed[1] == first | {"cached": True}
    alone = [server.classify("sentiment", text).json()["predictions"][0] for text in ("new", "newer")]
    assert alone == [mixed[0] | {"cached": True}, mixed[2] | {"cached": True}]
    assert sample(server, "superpos_rows_cached_total") == 9 + 1 + 2
    assert sample(server, "superpos_result_cache_bytes") > 0


@pytest.mark.slow
def test_a_new_version_answers_for_itself(serve: Serve, tiny: Backbone) -> None:
    server = serve(result_cache_bytes=1 << 20)
    for seed in range(2):
        server.upload("sentiment", make_adapter(tiny, seed=seed))
        answer = server.classify("sentiment", "x").json()
        assert answer["version"] == seed + 1
        assert answer["predictions"][0]["cached"] is False
    assert server.classify("sentiment@1", "x").json()["predictions"][0]["cached"] is True


def test_a_text_too_long_is_named_by_its_place_among_remembered_ones(serve: Serve, tiny: Backbone) -> None:
    server = serve(result_cache_bytes=1 << 20)
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", ["a", "b"])
    refused = server.classify("sentiment", ["a", "b", "flat " * 200])
    assert (refused.status_code, refused.json()["code"]) == (422, "text_too_long")
    assert "inputs[2]" in refused.json()["detail"]


def test_without_the_setting_every_row_is_computed(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    answers = [server.classify("sentiment", "x").json()["predictions"][0] for _ in range(2)]
    assert [answer["cached"] for answer in answers] == [False, False]
