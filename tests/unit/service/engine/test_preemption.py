"""Light rows beside a heavy batch, through the real forward: they go ahead of it, and nobody's answer changes."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from support.adapters import SENTIMENT, make_adapter
from support.engine import sabotaged

from backbone import Backbone, PackedBatch, PackedRow, pack
from backbone.trie import build_trie
from service.catalog.adapter_cache import LoadedAdapter, load_adapter
from service.engine.engine import Engine
from service.engine.model_runner import ModelRunner
from service.engine.types import BatchStats, Row, RowScores
from service.errors import InferenceFailed

MAX_BATCH_TOKENS = 200


def rows_of(adapter: LoadedAdapter, tenant: str, *, num_tokens: int, count: int = 1) -> list[Row]:
    ids = tuple(5 + i % 40 for i in range(num_tokens - adapter.num_virtual_tokens))
    return [Row(adapter, ids, time.monotonic() + 60, tenant) for _ in range(count)]


@pytest.fixture
def adapter(tiny: Backbone) -> LoadedAdapter:
    return load_adapter(make_adapter(tiny, SENTIMENT), tiny)


@contextmanager
def engine_that_meets(
    backbone: Backbone, during_a_heavy_batch: Callable[[Engine], None], batches: list[BatchStats]
) -> Iterator[Engine]:
    """An engine whose first heavy batch finds something done right when its forward begins."""
    done = threading.Event()

    def before(packed: PackedBatch) -> None:
        if packed.num_tokens > MAX_BATCH_TOKENS // 2 and not done.is_set():
            done.set()
            during_a_heavy_batch(engine)

    interrupted = sabotaged(backbone, before)
    engine = Engine(interrupted, max_batch_tokens=MAX_BATCH_TOKENS, prompt_table_bytes=1 << 20, on_batch=batches.append)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
    assert done.is_set()


def answered(futures: Sequence[Future[RowScores]]) -> bool:
    return all(np.isfinite(future.result(30)).all() for future in futures)


def test_a_light_row_is_answered_before_the_heavy_batch_that_it_met(tiny: Backbone, adapter: LoadedAdapter) -> None:
    light: list[Future[RowScores]] = []
    batches: list[BatchStats] = []
    heavy_done_before_light: list[bool] = []

    def send(engine: Engine) -> None:
        light.extend(engine.submit(rows_of(adapter, "light", num_tokens=20)))
        light[0].add_done_callback(lambda _: heavy_done_before_light.append(any(future.done() for future in heavy)))

    with engine_that_meets(tiny, send, batches) as engine:
        heavy = engine.submit(rows_of(adapter, "heavy", num_tokens=50, count=8))
        assert answered(heavy)
        assert answered(light)
    assert heavy_done_before_light == [False]
    assert [done.num_tokens for done in batches] == [20, 200, 200]
    assert all(done.infer_s > 0 for done in batches)


def test_more_rows_of_the_heavy_tenant_do_not_go_ahead_of_it(tiny: Backbone, adapter: LoadedAdapter) -> None:
    more: list[Future[RowScores]] = []
    batches: list[BatchStats] = []

    def send(engine: Engine) -> None:
        more.extend(engine.submit(rows_of(adapter, "heavy", num_tokens=20)))

    with engine_that_meets(tiny, send, batches) as engine:
        assert answered(engine.submit(rows_of(adapter, "heavy", num_tokens=50, count=4)))
        assert answered(more)
    assert [done.num_tokens for done in batches] == [200, 20]


def test_a_light_row_that_fails_does_not_fail_the_heavy_batch(tiny: Backbone, adapter: LoadedAdapter) -> None:
    wide = dataclasses.replace(adapter, digest="too wide", rows=np.zeros((10, 64), np.float32))
    light: list[Future[RowScores]] = []
    batches: list[BatchStats] = []

    def send(engine: Engine) -> None:
        light.extend(engine.submit(rows_of(wide, "light", num_tokens=20)))

    with engine_that_meets(tiny, send, batches) as engine:
        heavy = engine.submit(rows_of(adapter, "heavy", num_tokens=50, count=4))
        assert answered(heavy)
        with pytest.raises(InferenceFailed, match="forward failed"):
            light[0].result(30)


def test_stopping_in_the_middle_of_a_heavy_batch_answers_what_was_accepted(
    tiny: Backbone, adapter: LoadedAdapter
) -> None:
    light: list[Future[RowScores]] = []
    stopping: list[threading.Thread] = []
    batches: list[BatchStats] = []

    def send_and_stop(engine: Engine) -> None:
        light.extend(engine.submit(rows_of(adapter, "light", num_tokens=20)))
        stopping.append(threading.Thread(target=engine.stop))
        stopping[0].start()

    with engine_that_meets(tiny, send_and_stop, batches) as engine:
        assert answered(engine.submit(rows_of(adapter, "heavy", num_tokens=50, count=8)))
    stopping[0].join(30)
    assert answered(light)


def test_a_forward_that_another_one_interrupts_gives_the_same_scores_to_the_bit(
    tiny: Backbone, adapter: LoadedAdapter
) -> None:
    others = [load_adapter(make_adapter(tiny, SENTIMENT, seed=seed), tiny) for seed in range(1, 4)]
    pauses: list[int] = []
    inner: list[np.ndarray] = []

    def pause(_: float) -> None:
        pauses.append(len(pauses))
        if len(pauses) <= len(others):
            inner.append(forward(rows_of(others[len(pauses) - 1], "light", num_tokens=30))[0])

    forward = ModelRunner(tiny, prompt_table_bytes=1 << 20, pause=pause)
    rows = rows_of(adapter, "heavy", num_tokens=40, count=4)
    interrupted = forward(rows)
    forward.prompt_table.clear()  # the prompts are the other forward's turn
    assert len(pauses) >= 2 * tiny.architecture.num_encoder_layers
    alone = ModelRunner(tiny, prompt_table_bytes=1 << 20)
    for scores, expected in zip(interrupted, alone(rows), strict=True):
        assert np.array_equal(scores, expected)
    for other, scores in zip(others, reversed(inner), strict=True):
        assert np.array_equal(scores, alone(rows_of(other, "light", num_tokens=30))[0])


def overwrite(prompts: torch.Tensor) -> None:
    prompts.zero_()


def test_the_encoder_pauses_only_after_it_has_read_the_prompts(tiny: Backbone) -> None:
    """A forward in between may give the prompt's place in the bank to another."""
    prompts = torch.randn(4, tiny.width)
    packed = pack([PackedRow(range(4), (5, 6, 7, 1))])
    with torch.inference_mode():
        expected = tiny.encode(packed, prompts.clone()).hidden
        overwritten = tiny.encode(packed, prompts, pause=lambda _: overwrite(prompts)).hidden
    assert torch.equal(expected, overwritten)


def test_a_long_row_is_the_same_to_the_bit_wherever_another_forward_interrupts_it(tiny: Backbone) -> None:
    """Its attention, its linear layers and its decoder run in pieces, and all its tokens and nodes are worked off."""
    trie = build_trie([[3 + i // 20, 3 + i % 20, 40 + i % 7, 50] for i in range(800)], start_id=0, eos_id=1)
    adapter = load_adapter(make_adapter(tiny, SENTIMENT), tiny)
    adapter = dataclasses.replace(adapter, readout=trie)
    worked: list[float] = []
    nested = False

    def pause(tokens: float) -> None:
        nonlocal nested
        if nested:
            return
        worked.append(tokens)
        nested = True
        forward(rows_of(others, "light", num_tokens=30))
        nested = False

    others = load_adapter(make_adapter(tiny, SENTIMENT, seed=1), tiny)
    forward = ModelRunner(tiny, prompt_table_bytes=1 << 20, pause=pause)
    rows = rows_of(adapter, "heavy", num_tokens=1_500)
    (interrupted,) = forward(rows)
    forward.prompt_table.clear()
    assert len(worked) > 5 * (2 * tiny.architecture.num_encoder_layers)
    assert sum(worked) == pytest.approx(1_500 + trie.num_decoded)
    (alone,) = ModelRunner(tiny, prompt_table_bytes=1 << 20)(rows)
    assert np.array_equal(interrupted, alone)
