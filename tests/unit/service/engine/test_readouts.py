"""Adapters with learned readouts in the engine: mixed batches, eviction, texts that are encoded once."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import PAIR, TOPIC, TOPICS, make_adapter
from support.engine import Held, alone, copies, loaded, packed_tokens, row, sabotaged

from adapters import TaskSpec
from adapters.readout import ReadoutKind
from backbone import Backbone, PackedBatch
from service.catalog.adapter_cache import LoadedAdapter, load_adapter
from service.engine.model_runner import ModelRunner
from service.engine.types import share_texts

KINDS: tuple[ReadoutKind, ...] = ("words", "soft", "pooled", "joint")
MANY = TaskSpec(template="text: {text}", labels={f"label {i}": f"word {i}" for i in range(40)}, max_tokens=64)
SPECS = (PAIR, TOPIC, MANY, TOPICS)
PROMPTS = (0, 1, 10)
TEXTS = ("a film", "the world of sports", "flat and overlong " * 5)


class Zoo:
    """One adapter of each kind, prompt length and task, and what runs them."""

    def __init__(self, backbone: Backbone) -> None:
        self.packed: list[PackedBatch] = []
        self.runner = ModelRunner(sabotaged(backbone, self.packed.append), prompt_table_bytes=1)
        self.adapters: dict[tuple[ReadoutKind, int, int], LoadedAdapter] = {
            (kind, prompt, number): loaded(
                backbone,
                TOPIC if kind == "words" and spec.is_multi_label else spec,
                seed=number,
                num_virtual_tokens=max(prompt, int(kind == "words")),
                readout=kind,
            )
            for kind in KINDS
            for prompt in PROMPTS
            for number, spec in enumerate(SPECS)
        }


Drawn = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(PROMPTS),
        st.integers(0, len(SPECS) - 1),
        st.sampled_from(TEXTS),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def zoo(tiny: Backbone) -> Zoo:
    return Zoo(tiny)


@pytest.mark.slow
@given(drawn=Drawn, order=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_rows_of_any_readouts_prompts_and_label_counts_are_answered_as_if_alone(
    tiny: Backbone, zoo: Zoo, drawn: list[tuple[ReadoutKind, int, int, str]], order: random.Random
) -> None:
    runner, adapters = zoo.runner, zoo.adapters
    rows = [row(tiny, adapters[kind, prompt, number], text) for kind, prompt, number, text in drawn]
    order.shuffle(rows)
    expected = [alone(tiny, asked) for asked in rows]
    for answers in (runner(rows), runner(rows[::-1])[::-1]):
        for scores, of_row in zip(answers, expected, strict=True):
            assert isinstance(scores, np.ndarray)
            assert scores.shape == of_row.shape
            assert np.abs(scores - of_row).max() <= 1e-5


def test_an_evicted_readout_answers_as_before(tiny: Backbone) -> None:
    runner = ModelRunner(tiny, prompt_table_bytes=1)  # the table keeps at least 1,024 rows
    wide = TaskSpec(template="{text}", labels={f"l{i}": f"w{i} x" for i in range(400)}, max_tokens=64)
    rows = [
        row(tiny, loaded(tiny, wide, seed=seed, num_virtual_tokens=seed, readout=kind), "a film")
        for seed in range(3)
        for kind in KINDS[1:]
    ]
    first = [runner([asked])[0] for asked in rows]
    assert len(runner.prompt_table) < len(rows)
    for asked, scores in zip(rows, first, strict=True):
        assert np.array_equal(runner([asked])[0], scores)
        assert np.abs(scores - alone(tiny, asked)).max() <= 1e-5


def test_a_batch_of_more_label_vectors_than_the_table_holds_runs_in_parts(tiny: Backbone) -> None:
    runner = ModelRunner(tiny, prompt_table_bytes=1)  # the table keeps at least 1,024 rows
    wide = TaskSpec(template="{text}", labels={f"l{i}": f"w{i} x" for i in range(400)}, max_tokens=64)
    adapters = [
        loaded(tiny, wide, seed=seed, num_virtual_tokens=seed, readout=kind) for seed in range(3) for kind in KINDS[1:]
    ]
    rows = [row(tiny, adapter, "a film") for adapter in adapters * 2]
    random.Random(0).shuffle(rows)
    for asked, scores in zip(rows, runner(rows), strict=True):
        assert np.abs(scores - alone(tiny, asked)).max() <= 1e-5
    assert len(runner.prompt_table.table) == runner.prompt_table.max_rows


def test_a_text_without_prompts_is_encoded_once_for_all_tasks_of_a_tenant_and_for_no_other_tenant(
    tiny: Backbone,
) -> None:
    seen: list[PackedBatch] = []
    heads = [loaded(tiny, TOPIC, seed=seed, num_virtual_tokens=0, readout=KINDS[1 + seed % 3]) for seed in range(20)]
    mine = [row(tiny, head, "the world of sports") for head in heads]
    theirs = [dataclasses.replace(asked, tenant="other") for asked in mine]
    with_prompt = row(tiny, loaded(tiny, TOPIC), "the world of sports")
    runner = ModelRunner(sabotaged(tiny, seen.append), prompt_table_bytes=1 << 20)
    rows = [*mine, with_prompt, *theirs]
    answers = runner(rows)
    text = len(with_prompt.token_ids)
    assert seen[-1].num_rows == 3
    assert seen[-1].num_tokens == 3 * text + 10
    for asked, scores in zip(rows, answers, strict=True):
        assert np.abs(scores - alone(tiny, asked)).max() <= 1e-5


def test_rows_that_share_a_text_are_charged_for_it_once_and_run_in_one_batch(tiny: Backbone) -> None:
    seen: list[PackedBatch] = []
    heads = [loaded(tiny, TOPIC, seed=seed, num_virtual_tokens=0, readout=KINDS[1 + seed % 3]) for seed in range(20)]
    rows = [row(tiny, head, "the world of sports") for head in heads]
    text = len(rows[0].token_ids)
    # without sharing, a batch would have one row
    held = Held(sabotaged(tiny, seen.append), max_batch_tokens=text + 19)
    held.engine.submit(copies(rows[0], 1))[0].result(30)
    share_texts(rows)
    assert [asked.num_tokens for asked in rows] == [text, *[1] * 19]
    for future in held.engine.submit(rows):
        future.result(30)
    held.engine.stop()
    assert [packed.num_rows for packed in seen[-2:]] == [1, 1]
    assert (held.batches[-1].num_rows, held.batches[-1].num_tokens) == (20, text + 19)


@pytest.mark.slow
@given(drawn=Drawn)
@settings(max_examples=20, deadline=None)
def test_the_charge_of_rows_that_share_texts_covers_what_the_model_computes(
    tiny: Backbone, zoo: Zoo, drawn: list[tuple[ReadoutKind, int, int, str]]
) -> None:
    rows = [row(tiny, zoo.adapters[kind, prompt, number], text) for kind, prompt, number, text in drawn]
    share_texts(rows)
    zoo.runner(rows)
    followers = [asked for asked in rows if asked.leader is not None]
    assert zoo.packed[-1].num_rows == len(rows) - len(followers)
    assert sum(asked.num_tokens for asked in rows) >= zoo.packed[-1].num_tokens + len(followers)


def test_scores_are_the_same_with_and_without_a_shared_text(tiny: Backbone) -> None:
    heads = [loaded(tiny, SPECS[seed % 3], seed=seed, num_virtual_tokens=0, readout=KINDS[1 + seed % 3])
             for seed in range(12)]  # fmt: skip
    rows = [row(tiny, head, text) for text in TEXTS for head in heads]
    runner = ModelRunner(tiny, prompt_table_bytes=1 << 20)
    apart = [runner([asked])[0] for asked in rows]
    share_texts(rows)
    for shared, scores in zip(runner(rows), apart, strict=True):
        assert np.array_equal(shared, scores)


def test_rows_with_a_prompt_share_nothing_and_rows_share_again_as_they_are_submitted(tiny: Backbone) -> None:
    head, other, prompted = (
        loaded(tiny, TOPIC, seed=seed, num_virtual_tokens=prompt, readout="pooled")
        for seed, prompt in enumerate((0, 0, 3))
    )
    rows = [row(tiny, adapter, "a film") for adapter in (head, other, prompted, prompted)]
    share_texts(rows)
    assert [asked.leader for asked in rows] == [None, rows[0], None, None]
    share_texts(rows[1:])
    assert [asked.leader for asked in rows[1:]] == [None] * 3
    assert rows[1].num_tokens == packed_tokens(rows[1])


def test_a_learned_readout_costs_its_text_and_its_prompt(tiny: Backbone) -> None:
    for kind in KINDS[1:]:
        asked = row(tiny, loaded(tiny, MANY, num_virtual_tokens=3, readout=kind), "a film")
        assert asked.num_tokens == packed_tokens(asked)
    assert row(tiny, loaded(tiny, MANY), "a film").num_tokens > packed_tokens(asked)


def test_the_engine_runs_learned_readouts_among_others(tiny: Backbone, held: Held) -> None:
    adapters = [loaded(tiny, TOPIC, seed=seed, readout=kind) for seed, kind in enumerate(KINDS * 3)]
    rows = [row(tiny, adapter, "a gripping film") for adapter in adapters]
    held.hold(rows[0])
    futures = held.engine.submit(rows)
    held.release()
    for asked, future in zip(rows, futures, strict=True):
        assert np.abs(future.result(30) - alone(tiny, asked)).max() <= 1e-5
    assert held.batches[-1].num_rows == len(rows)


def test_a_readout_is_checked_against_the_backbone(tiny: Backbone) -> None:
    adapter = make_adapter(tiny, TOPIC, readout="soft")
    rows = load_adapter(adapter, tiny).rows
    assert rows is not None
    assert rows.shape == (10 + 4 + 1, tiny.width)
