"""The bank: prompts land where their slots say, through growth, eviction and re-load."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
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
    def check(bank: PromptTable, adapters: Sequence[LoadedAdapter], slots: dict[str, tuple[int, ...]]) -> None:
        """Each adapter's rows of the table are its prompt, and no row is two adapters'."""
        assert set(slots) == {adapter.digest for adapter in adapters}
        for digest, rows in slots.items():
            assert torch.equal(bank.table[list(rows)], torch.from_numpy(made[digest].prompt.copy()))
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
    bank = bank_of(tiny.width, max_bytes=1 << 30)
    assert_intact(bank, prompts, bank.slots(prompts))
    assert len(bank) == len(prompts)


def test_a_prompt_asked_for_again_keeps_its_slot(tiny: Backbone, prompts: list[LoadedAdapter]) -> None:
    bank = bank_of(tiny.width, max_bytes=1 << 30)
    first = bank.slots(prompts[:5])
    table = bank.table.clone()
    assert bank.slots(prompts[:5]) == first
    assert torch.equal(bank.table, table)
    assert len(bank) == 5


def test_an_adapter_named_twice_in_a_batch_holds_one_slot(
    tiny: Backbone, prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=1 << 30)
    slots = bank.slots([prompts[1], prompts[1], prompts[2]])
    assert_intact(bank, prompts[1:3], slots)
    assert len(bank) == 2


def test_an_empty_batch_needs_no_slot(tiny: Backbone) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    assert bank.slots([]) == {}
    assert len(bank) == 0


def test_growth_by_doubling_keeps_what_is_resident(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=1 << 30)
    sizes = []
    for adapter in long_prompts:
        bank.slots([adapter])
        sizes.append(len(bank.table))
    assert sorted(set(sizes)) == [FIRST_ROWS, 2 * FIRST_ROWS, 4 * FIRST_ROWS]
    assert len(bank) == len(long_prompts)
    table = bank.table
    assert_intact(bank, long_prompts, bank.slots(long_prompts))
    assert bank.table is table


def test_growth_stops_at_the_limit_in_bytes(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    limit_rows = 1_500
    bank = bank_of(tiny.width, max_bytes=4 * tiny.width * limit_rows)
    for adapter in long_prompts:
        assert_intact(bank, [adapter], bank.slots([adapter]))
        assert len(bank.table) <= limit_rows
    assert len(bank.table) == limit_rows
    assert len(bank) == 15


def test_past_the_limit_the_least_recently_used_prompt_leaves(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    old = {adapter.digest: bank.slots([adapter])[adapter.digest] for adapter in long_prompts[:10]}
    bank.slots([long_prompts[0]])  # the second is now the one that was not used for longest
    new = set(bank.slots([long_prompts[10]])[long_prompts[10].digest])
    assert len(bank) == 10
    assert new & set(old[long_prompts[1].digest])
    kept = [long_prompts[0], *long_prompts[2:10]]
    for adapter in kept:
        assert not new & set(old[adapter.digest])
    assert bank.slots(kept) == {adapter.digest: old[adapter.digest] for adapter in kept}
    assert_intact(bank, kept, bank.slots(kept))


def test_what_the_batch_needs_is_never_evicted_for_it(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    for adapter in long_prompts[:10]:
        bank.slots([adapter])
    # the oldest residents and newcomers together: the oldest are the first that eviction would take
    batch = [*long_prompts[10:13], *long_prompts[:3]]
    assert_intact(bank, batch, bank.slots(batch))
    assert len(bank.table) == FIRST_ROWS
    assert len(bank) == 10


def test_a_batch_larger_than_the_limit_has_all_its_prompts(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    assert_intact(bank, long_prompts, bank.slots(long_prompts))
    assert len(bank) == len(long_prompts)


def test_a_prompt_loaded_again_after_it_left_is_intact(
    tiny: Backbone, long_prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    for _ in range(3):
        for adapter in long_prompts:
            assert_intact(bank, [adapter], bank.slots([adapter]))
    assert len(bank.table) == FIRST_ROWS
    assert len(bank) == 10


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_batch_of_any_sequence_finds_its_prompts_intact(
    tiny: Backbone, made: dict[str, PromptAdapter], data: st.DataObject, assert_intact: Check
) -> None:
    pool = load_all(tiny, made)
    limit_rows = data.draw(st.integers(FIRST_ROWS, 2_500))
    bank = bank_of(tiny.width, max_bytes=4 * tiny.width * limit_rows)
    batches = st.lists(st.sampled_from(pool), max_size=8, unique_by=lambda adapter: adapter.digest)
    for batch in data.draw(st.lists(batches, max_size=20)):
        assert_intact(bank, batch, bank.slots(batch))
        assert len(bank.table) <= limit_rows
        assert len(bank) >= len(batch)


def test_a_prompt_that_cannot_be_written_takes_no_rows(
    tiny: Backbone, prompts: list[LoadedAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=1 << 20)
    assert prompts[0].prompt is not None
    wide = dataclasses.replace(prompts[0], digest="wide", prompt=np.zeros((100, tiny.width + 1), np.float32))
    for _ in range(50):
        with pytest.raises(RuntimeError):
            bank.slots([wide])
    assert len(bank) == 0
    assert_intact(bank, prompts, bank.slots(prompts))
    assert len(bank.table) == 1_024


def test_a_prompt_is_in_one_place_at_a_time_and_none_is_lost(
    tiny: Backbone, long_prompts: list[LoadedAdapter], made: dict[str, PromptAdapter]
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    for adapter in long_prompts:
        bank.slots([adapter])
    resident = [adapter for adapter in long_prompts if adapter.prompt is None]
    assert resident == long_prompts[-len(bank) :]
    for adapter in long_prompts[: -len(bank)]:
        assert np.array_equal(adapter.prompt, made[adapter.digest].prompt)


def test_two_copies_of_an_adapter_share_a_slot_and_neither_is_left_without_its_prompt(
    tiny: Backbone, made: dict[str, PromptAdapter], assert_intact: Check
) -> None:
    bank = bank_of(tiny.width, max_bytes=SMALLEST)
    old, new = load_all(tiny, made)[30], load_all(tiny, made)[30]
    slots = bank.slots([old])
    assert bank.slots([new]) == slots
    for adapter in load_all(tiny, made)[31:45]:  # both move out
        bank.slots([adapter])
    for adapter in (new, old):
        assert_intact(bank, [adapter], bank.slots([adapter]))
