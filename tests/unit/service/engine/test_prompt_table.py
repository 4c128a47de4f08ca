"""The prompt_table: prompts land where their slots say, through growth, eviction and re-load."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import make_adapter

from adapters import PromptAdapter
from backbone import Backbone
from service.catalog.adapter_cache import LoadedAdapter, load_adapter
from service.engine.prompt_table import PromptTable

Check = Callable[[PromptTable, Sequence[LoadedAdapter], dict[str, tuple[int, ...]]], None]
LENGTHS = [1, 10, 100, 3, 20, 7, 64, 2, 50, 33]
FIRST_ROWS = 1_024
SMALLEST = 1
"""A limit in bytes under the table's first size, so that it never grows for more than one batch."""


@pytest.fixture(scope="module")
def made(tiny: Backbone) -> dict[str, PromptAdapter]:
    """Adapters with prompts of many lengths, then some with a hundred rows, by digest."""
    lengths = [LENGTHS[seed % len(LENGTHS)] for seed in range(30)] + [100] * 24
    adapters = [make_adapter(tiny, seed=seed, num_virtual_tokens=count) for seed, count in enumerate(lengths)]
    return {adapter.digest: adapter for adapter in adapters}


@pytest.fixture
def prompts(tiny: Backbone, made: dict[str, PromptAdapter]) -> list[LoadedAdapter]:
    """Adapters with prompts of many lengths."""
    return load_all(tiny, made)[:30]


@pytest.fixture
def long_prompts(tiny: Backbone, made: dict[str, PromptAdapter]) -> list[LoadedAdapter]:
    """Adapters with prompts of a hundred rows: ten of them fill the first table but for 24 rows."""
    return load_all(tiny, made)[30:]


@pytest.fixture(scope="module")
def assert_intact(made: dict[str, PromptAdapter]) -> Check:
    def check(prompt_table: PromptTable, adapters: Sequence[LoadedAdapter], slots: dict[str, tuple[int, ...]]) -> None:
        """Each adapter's rows of the table are its prompt, and no row is two adapters'."""
        assert set(slots) == {adapter.digest for adapter in adapters}
        for digest, rows in slots.items():
            assert torch.equal(prompt_table.table[list(rows)], torch.from_numpy(made[digest].prompt.copy()))
        every = [row for rows in slots.values() for row in rows]
        assert len(set(every)) == len(every)

    return check


def load_all(tiny: Backbone, made: dict[str, PromptAdapter]) -> list[LoadedAdapter]:
    return [load_adapter(adapter, tiny) for adapter in made.values()]


def bank_of(width: int, *, max_bytes: int) -> PromptTable:
    return PromptTable(width=width, device=torch.device("cpu"), max_bytes=max_bytes)


def test_prompts_of_many_lengths_land_intact(
    tiny: Backbone, prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=1 << 30)
    assert_intact(prompt_table, prompts, prompt_table.load(prompts))
    assert len(prompt_table) == len(prompts)


def test_a_prompt_asked_for_again_keeps_its_slot(tiny: Backbone, prompts: list[LoadedAdapter]) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=1 << 30)
    first = prompt_table.load(prompts[:5])
    table = prompt_table.table.clone()
    assert prompt_table.load(prompts[:5]) == first
    assert torch.equal(prompt_table.table, table)
    assert len(prompt_table) == 5


def test_an_adapter_named_twice_in_a_batch_holds_one_slot(
    tiny: Backbone, prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=1 << 30)
    slots = prompt_table.load([prompts[1], prompts[1], prompts[2]])
    assert_intact(prompt_table, prompts[1:3], slots)
    assert len(prompt_table) == 2


def test_an_empty_batch_needs_no_slot(tiny: Backbone) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    assert prompt_table.load([]) == {}
    assert len(prompt_table) == 0


def test_growth_by_doubling_keeps_what_is_resident(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=1 << 30)
    sizes = []
    for adapter in long_prompts:
        prompt_table.load([adapter])
        sizes.append(len(prompt_table.table))
    assert sorted(set(sizes)) == [FIRST_ROWS, 2 * FIRST_ROWS, 4 * FIRST_ROWS]
    assert len(prompt_table) == len(long_prompts)
    table = prompt_table.table
    assert_intact(prompt_table, long_prompts, prompt_table.load(long_prompts))
    assert prompt_table.table is table


def test_growth_stops_at_the_limit_in_bytes(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    limit_rows = 1_500
    prompt_table = bank_of(tiny.width, max_bytes=4 * tiny.width * limit_rows)
    for adapter in long_prompts:
        assert_intact(prompt_table, [adapter], prompt_table.load([adapter]))
        assert len(prompt_table.table) <= limit_rows
    assert len(prompt_table.table) == limit_rows
    assert len(prompt_table) == 15


def test_past_the_limit_the_least_recently_used_prompt_leaves(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    old = {adapter.digest: prompt_table.load([adapter])[adapter.digest] for adapter in long_prompts[:10]}
    prompt_table.load([long_prompts[0]])  # the second is now the one that was not used for longest
    new = set(prompt_table.load([long_prompts[10]])[long_prompts[10].digest])
    assert len(prompt_table) == 10
    assert new & set(old[long_prompts[1].digest])
    kept = [long_prompts[0], *long_prompts[2:10]]
    for adapter in kept:
        assert not new & set(old[adapter.digest])
    assert prompt_table.load(kept) == {adapter.digest: old[adapter.digest] for adapter in kept}
    assert_intact(prompt_table, kept, prompt_table.load(kept))


def test_what_the_batch_needs_is_never_evicted_for_it(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    for adapter in long_prompts[:10]:
        prompt_table.load([adapter])
    # the oldest residents and newcomers together: the oldest are the first that eviction would take
    batch = [*long_prompts[10:13], *long_prompts[:3]]
    assert_intact(prompt_table, batch, prompt_table.load(batch))
    assert len(prompt_table.table) == FIRST_ROWS
    assert len(prompt_table) == 10


def test_a_batch_larger_than_the_limit_has_all_its_prompts(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    assert_intact(prompt_table, long_prompts, prompt_table.load(long_prompts))
    assert len(prompt_table) == len(long_prompts)


def test_a_prompt_loaded_again_after_it_left_is_intact(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    for _ in range(3):
        for adapter in long_prompts:
            assert_intact(prompt_table, [adapter], prompt_table.load([adapter]))
    assert len(prompt_table.table) == FIRST_ROWS
    assert len(prompt_table) == 10


@settings(max_examples=50, deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_every_batch_of_any_sequence_finds_its_prompts_intact(
    tiny: Backbone, made: dict[str, PromptAdapter], data: st.DataObject, assert_intact: Check
) -> None:
    pool = load_all(tiny, made)
    limit_rows = data.draw(st.integers(FIRST_ROWS, 2_500))
    prompt_table = bank_of(tiny.width, max_bytes=4 * tiny.width * limit_rows)
    batches = st.lists(st.sampled_from(pool), max_size=8, unique_by=lambda adapter: adapter.digest)
    for batch in data.draw(st.lists(batches, max_size=20)):
        assert_intact(prompt_table, batch, prompt_table.load(batch))
        assert len(prompt_table.table) <= limit_rows
        assert len(prompt_table) >= len(batch)


def test_a_prompt_that_cannot_be_written_takes_no_rows(
    tiny: Backbone, prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=1 << 20)
    assert prompts[0].rows is not None
    wide = dataclasses.replace(prompts[0], digest="wide", rows=np.zeros((100, tiny.width + 1), np.float32))
    for _ in range(50):
        with pytest.raises(RuntimeError):
            prompt_table.load([wide])
    assert len(prompt_table) == 0
    assert_intact(prompt_table, prompts, prompt_table.load(prompts))
    assert len(prompt_table.table) == 1_024


def test_a_prompt_is_in_one_place_at_a_time_and_none_is_lost(
    tiny: Backbone, long_prompts: list[LoadedAdapter], made: dict[str, PromptAdapter]
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    for adapter in long_prompts:
        prompt_table.load([adapter])
    resident = [adapter for adapter in long_prompts if adapter.rows is None]
    assert resident == long_prompts[-len(prompt_table) :]
    for adapter in long_prompts[: -len(prompt_table)]:
        assert np.array_equal(adapter.rows, made[adapter.digest].prompt)


def test_two_copies_of_an_adapter_share_a_slot_and_neither_is_left_without_its_prompt(
    tiny: Backbone, made: dict[str, PromptAdapter], assert_intact: Check
) -> None:
    prompt_table = bank_of(tiny.width, max_bytes=SMALLEST)
    old, new = load_all(tiny, made)[30], load_all(tiny, made)[30]
    slots = prompt_table.load([old])
    assert prompt_table.load([new]) == slots
    for adapter in load_all(tiny, made)[31:45]:  # both move out
        prompt_table.load([adapter])
    for adapter in (new, old):
        assert_intact(prompt_table, [adapter], prompt_table.load([adapter]))


@pytest.mark.skipif(not psutil.LINUX, reason="other allocators decide for themselves")
def test_rows_that_moved_into_the_table_leave_no_memory_behind(tiny: Backbone) -> None:
    one = load_adapter(make_adapter(tiny), tiny)
    width, count = 512, 4_000
    table = bank_of(width, max_bytes=1 << 30)
    table.load([dataclasses.replace(one, digest="first", rows=np.ones((10, width), np.float32))])
    process = psutil.Process()
    before = process.memory_info().rss
    # what an adapter keeps is between the rows of two adapters
    kept, adapters = [], []
    for number in range(count):
        adapters.append(dataclasses.replace(one, digest=str(number), rows=np.ones((10, width), np.float32)))
        kept.append(np.ones(20))
    for first in range(0, count, 100):
        table.load(adapters[first : first + 100])
    size = count * 10 * width * 4
    assert len(kept) == count
    assert process.memory_info().rss - before < 1.4 * size
