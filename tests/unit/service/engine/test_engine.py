"""The engine by itself: fault isolation, deadlines, cancellation, and a model thread that dies."""

import copy
import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import PAIR, TOPIC
from support.engine import Held, alone, assert_as_if_alone, copies, loaded, packed_tokens, row, sabotaged, token_of
from support.waiting import eventually

from backbone import Backbone, Encoded, PackedBatch
from backbone.decoder import TrieNodes
from backbone.trie import build_trie
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.model_runner import ModelRunner
from service.engine.types import BatchStats, Row, RowScores
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, ServiceError


def test_rows_of_many_tasks_in_one_batch_are_answered_as_if_alone(tiny: Backbone, held: Held) -> None:
    adapters = [
        loaded(tiny, spec, seed=seed, num_virtual_tokens=1 + 9 * seed) for seed, spec in enumerate([TOPIC, PAIR] * 4)
    ]
    rows = [row(tiny, adapter, text) for adapter in adapters for text in ("a film", "the world of sports")]
    held.hold(rows[0])
    futures = held.engine.submit(rows)
    held.release()
    for asked, future in zip(rows, futures, strict=True):
        scores = future.result(30)
        assert scores.shape == (asked.adapter.readout.num_labels,)
        assert np.abs(scores - alone(tiny, asked)).max() <= 1e-4
    assert held.batches[-1].num_rows == len(rows)
    assert held.batches[-1].num_adapters == len(adapters)


def test_a_batch_keeps_to_its_token_budget(tiny: Backbone) -> None:
    held = Held(tiny, max_batch_tokens=64)
    first = row(tiny, loaded(tiny), "a gripping film")
    held.hold(first)
    futures = held.engine.submit(copies(first, 20))
    held.release()
    for future in futures:
        future.result(30)
    held.engine.stop()
    assert max(done.num_tokens for done in held.batches) <= 64
    assert sum(done.num_rows for done in held.batches) == 21


def test_a_search_that_reaches_its_budget_is_charged_again_and_answered(tiny: Backbone, held: Held) -> None:
    trie = build_trie([[3 + i // 20, 3 + i % 20, 40 + i % 7, 50] for i in range(800)], start_id=0, eos_id=1)
    adapter = dataclasses.replace(loaded(tiny), readout=trie)
    whole = row(tiny, adapter, "a gripping film")
    searched = dataclasses.replace(whole, top_k=100)
    charged = searched.num_tokens
    held.hold(row(tiny, loaded(tiny), "another"))
    (future,) = held.engine.submit([searched])
    held.release()
    scores = future.result(30)
    assert np.abs(scores - alone(tiny, whole)).max() <= 1e-4
    assert [done.num_tokens for done in held.batches[1:]] == [charged, whole.num_tokens]
    assert trie.cost(None) == trie.num_nodes + len(trie.edge_nodes) // 128
    assert charged - packed_tokens(searched) <= trie.cost(None) == whole.num_tokens - packed_tokens(whole) + 1


@pytest.mark.parametrize("top_k", [1, 5, 199, 200, 799])
def test_a_row_is_charged_for_every_node_that_its_search_may_decode(tiny: Backbone, top_k: int) -> None:
    trie = build_trie([[3 + 2 * j + (i >> j & 1) for j in range(10)] for i in range(800)], start_id=0, eos_id=1)
    adapter = dataclasses.replace(loaded(tiny), readout=trie)
    asked = dataclasses.replace(row(tiny, adapter, "a gripping film"), top_k=top_k)
    decoded: list[int] = []
    watched, sound = copy.copy(tiny), tiny._decode

    def count(
        encoded: Encoded, rows: Sequence[int], nodes: Sequence[TrieNodes], *rest: object, **more: object
    ) -> torch.Tensor:
        decoded.extend(each.num_nodes for each in nodes)
        return sound(encoded, rows, nodes, *rest, **more)

    watched._decode = count
    ModelRunner(watched, prompt_table_bytes=1 << 20)([asked])
    charged = asked.num_tokens - packed_tokens(asked) + 1
    assert 0 < sum(decoded) <= charged


def test_a_row_that_is_no_number_fails_alone(tiny: Backbone, held: Held) -> None:
    good, poisoned = loaded(tiny), loaded(tiny, seed=1)
    prompt = poisoned.rows.copy()
    prompt[0, 0] = np.nan
    bad = dataclasses.replace(poisoned, digest="poisoned", rows=prompt)
    held.hold(row(tiny, good, "x"))
    before, culprit, after = held.engine.submit([row(tiny, adapter, "a film") for adapter in (good, bad, good)])
    held.release()
    assert np.isfinite(before.result(30)).all()
    assert np.isfinite(after.result(30)).all()
    with pytest.raises(InferenceFailed, match="not finite"):
        culprit.result(30)


def test_a_row_that_raises_is_bisected_out_of_its_batch(tiny: Backbone, held: Held) -> None:
    good = loaded(tiny)
    bad = dataclasses.replace(loaded(tiny), digest="too wide", rows=np.zeros((10, 64), np.float32))
    held.hold(row(tiny, good, "x"))
    rows = [row(tiny, good, "a film") for _ in range(9)]
    rows[4] = row(tiny, bad, "a film")
    futures = held.engine.submit(rows)
    held.release()
    for index, future in enumerate(futures):
        if index == 4:
            with pytest.raises(InferenceFailed, match="forward failed"):
                future.result(30)
        else:
            assert np.abs(future.result(30) - alone(tiny, rows[index])).max() <= 1e-4


def test_a_row_whose_deadline_passed_in_the_queue_is_not_run(tiny: Backbone, held: Held) -> None:
    adapter = loaded(tiny)
    held.hold(row(tiny, adapter, "x"))
    late, fine = held.engine.submit([row(tiny, adapter, "a", timeout_s=-1), row(tiny, adapter, "b")])
    held.release()
    with pytest.raises(DeadlineExceeded):
        late.result(30)
    fine.result(30)
    eventually(lambda: len(held.batches) >= 2)  # a batch is counted after its rows have their answers
    assert [done.num_rows for done in held.batches] == [1, 1]


def test_a_cancelled_row_costs_nothing(tiny: Backbone, held: Held) -> None:
    adapter = loaded(tiny)
    held.hold(row(tiny, adapter, "x"))
    gone, fine = held.engine.submit([row(tiny, adapter, "a"), row(tiny, adapter, "b")])
    assert gone.cancel()
    held.release()
    fine.result(30)
    eventually(lambda: len(held.batches) >= 2)  # a batch is counted after its rows have their answers
    assert [done.num_rows for done in held.batches] == [1, 1]


def test_stop_answers_what_was_accepted(tiny: Backbone) -> None:
    held = Held(tiny, max_batch_tokens=32)
    asked = row(tiny, loaded(tiny), "a film")
    held.hold(asked)
    futures = held.engine.submit(copies(asked, 10))
    held.release()
    held.engine.stop()
    assert all(np.isfinite(future.result(0)).all() for future in futures)
    with pytest.raises(NotReady):
        held.engine.submit(copies(asked, 1))[0].result(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_model_thread_leaves_nobody_waiting(tiny: Backbone) -> None:
    def die(_: BatchStats) -> None:
        raise SystemError("the model thread is killed by this test")

    engine = Engine(tiny, max_batch_tokens=16, prompt_table_bytes=1 << 20, on_batch=die)
    asked = row(tiny, loaded(tiny), "a film")
    futures = engine.submit(copies(asked, 5))
    engine.start()
    futures[0].result(30)
    for future in futures[1:]:
        with pytest.raises(NotReady):
            future.result(30)
    assert engine.stats().alive is False
    assert engine.stats().failure == "the model thread died of SystemError: the model thread is killed by this test"
    with pytest.raises(NotReady):
        engine.submit(copies(asked, 1))[0].result(5)
    engine.stop()  # the thread's last words belong to this test


MODEL_EVENTS = st.sampled_from(["works", "works", "works", "raises", "no memory", "dies"])


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["good", "other", "nan", "poison"]),
        st.sampled_from(["wanted", "wanted", "wanted", "cancelled", "late"]),
    ),
    min_size=1,
    max_size=12,
)


TEXTS = {"poison": "sports"}


ENDS = st.sampled_from(["stopped", "stopped early", "abandoned"])


@pytest.fixture(scope="module")
def adapters(tiny: Backbone) -> dict[str, LoadedAdapter]:
    good, other, bad = (loaded(tiny, seed=seed, num_virtual_tokens=4) for seed in range(3))
    nan = dataclasses.replace(bad, rows=np.full_like(bad.rows, np.nan))
    return {"good": good, "other": other, "nan": nan, "poison": other}


class Fate:
    """What happens in one batch after another."""

    def __init__(self, backbone: Backbone, events: Sequence[str]) -> None:
        self._events, self._poison = list(events), token_of(backbone, "sports")

    def __call__(self, packed: PackedBatch) -> None:
        if self._poison in packed.token_ids:
            raise ValueError("poison")
        match self._events.pop() if self._events else "works":
            case "raises":
                raise RuntimeError("now and then")
            case "no memory" if packed.num_rows > 1:
                raise torch.OutOfMemoryError
            case "dies":
                raise SystemExit("killed")


def ended(future: Future[RowScores]) -> RowScores | BaseException:
    try:
        return future.result(30)
    except (ServiceError, CancelledError) as exc:
        return exc


@dataclasses.dataclass(frozen=True)
class Story:
    """Requests of several callers, what the model does, and how it ends."""

    requests: list[list[tuple[str, str]]]
    events: list[str]
    end: str
    max_batch_tokens: int


STORIES = st.builds(
    Story,
    requests=st.lists(ROWS, min_size=1, max_size=5),
    events=st.lists(MODEL_EVENTS, max_size=8),
    end=ENDS,
    max_batch_tokens=st.integers(16, 200),
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@settings(max_examples=60, deadline=None)
@given(STORIES)
@pytest.mark.slow
def test_every_future_ends_with_its_own_scores_or_an_error_of_ours(
    tiny: Backbone, adapters: dict[str, LoadedAdapter], story: Story
) -> None:
    model = sabotaged(tiny, Fate(tiny, story.events))
    engine = Engine(model, max_batch_tokens=story.max_batch_tokens, prompt_table_bytes=1 << 20)
    asked: list[tuple[Row, Future[RowScores]]] = []

    def ask(request: list[tuple[str, str]]) -> None:
        rows = [
            row(tiny, adapters[kind], TEXTS.get(kind, "a film"), timeout_s=-1 if wish == "late" else 60)
            for kind, wish in request
        ]
        futures = engine.submit(rows)
        for (_, wish), future in zip(request, futures, strict=True):
            if wish == "cancelled":
                future.cancel()
        asked.extend(zip(rows, futures, strict=True))

    callers = [threading.Thread(target=ask, args=(request,)) for request in story.requests]
    for number, caller in enumerate(callers):
        caller.start()
        if number == len(callers) // 2:
            engine.start()
    if story.end == "abandoned":
        engine.abandon("given up")
    if story.end == "stopped early":
        engine.stop()
    for caller in callers:
        caller.join()
    engine.stop()
    engine._thread.join(30)
    assert len(asked) == sum(map(len, story.requests))
    outcomes = [ended(future) for _, future in asked]
    for (one, _), outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, np.ndarray):
            assert_as_if_alone(tiny, one, outcome)
    assert engine.stats().failure in (None, "the model thread died of SystemExit: killed")
    if story.end == "stopped" and "dies" not in story.events:
        assert not any(isinstance(outcome, NotReady) for outcome in outcomes)
    assert len(engine._pending) == 0
