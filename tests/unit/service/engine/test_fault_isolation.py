"""Containment: whatever one row does to its batch, the other rows are answered as if alone."""

import dataclasses
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from support.engine import PROMPTS, Held, assert_as_if_alone, loaded, packed_tokens, row, sabotaged, token_of
from torch import Tensor

from backbone import Backbone, PackedBatch
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.fault_isolation import FaultIsolation
from service.engine.model_runner import ModelRunner
from service.engine.types import Row, RowScores
from service.errors import InferenceFailed, NotReady, OutOfMemory


def with_prompt(adapter: LoadedAdapter, value: float, *, digest: str = "bad") -> LoadedAdapter:
    """An adapter that no upload check would let through."""
    prompt = np.full_like(PROMPTS[adapter.digest], value)
    prompt[1::2] *= -1
    return dataclasses.replace(adapter, digest=digest, rows=prompt)


def contained(backbone: Backbone) -> FaultIsolation:
    return FaultIsolation(ModelRunner(backbone, prompt_table_bytes=1 << 20))


def outcomes(fault_isolation: FaultIsolation, rows: Sequence[Row]) -> list[object]:
    """Each row's outcome, in the rows' order."""
    found = dict(fault_isolation.run(rows))
    assert found.keys() == set(rows)
    return [found[row] for row in rows]


class Memory:
    """A device that holds so many tokens at once; notes the size of each batch that asked for it."""

    def __init__(self, num_tokens: int, error: Callable[[], BaseException]) -> None:
        self.num_tokens, self._error = num_tokens, error
        self.asked: list[int] = []

    def __call__(self, packed: PackedBatch) -> None:
        self.asked.append(packed.num_tokens)
        if packed.num_tokens > self.num_tokens:
            raise self._error()


def cuda_out_of_memory() -> BaseException:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def cpu_out_of_memory() -> BaseException:
    try:
        torch.empty(1 << 50)
    except RuntimeError as exc:
        return exc
    raise AssertionError("a petabyte was allocated")


@pytest.fixture
def rows(tiny: Backbone) -> list[Row]:
    """Thirty rows of three adapters."""
    adapters = [loaded(tiny, seed=seed) for seed in range(3)]
    return [row(tiny, adapters[number % 3], "a film " * (1 + number % 5)) for number in range(30)]


@pytest.mark.parametrize("culprits", [(0,), (8,), (4,), (3, 4), (0, 8), (1, 2, 6, 7)])
def test_rows_that_raise_fail_alone(tiny: Backbone, culprits: tuple[int, ...]) -> None:
    poison = token_of(tiny, "sports")

    def raise_for_poison(packed: PackedBatch) -> None:
        if poison in packed.token_ids:
            raise ValueError("poison")

    adapter = loaded(tiny)
    some = [row(tiny, adapter, "sports" if number in culprits else "a film") for number in range(9)]
    for number, outcome in enumerate(outcomes(contained(sabotaged(tiny, raise_for_poison)), some)):
        if number in culprits:
            assert isinstance(outcome, InferenceFailed)
            assert "ValueError: poison" in str(outcome)
        else:
            assert_as_if_alone(tiny, some[number], outcome)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 1e30, 1e19])
def test_a_prompt_past_all_bounds_changes_no_bit_of_its_neighbours(tiny: Backbone, value: float) -> None:
    def answers_beside(neighbour: LoadedAdapter) -> list[object]:
        good = loaded(tiny)
        some = [row(tiny, adapter, "a film") for adapter in (good, neighbour, good, neighbour, good)]
        return outcomes(contained(tiny), some)

    clean, beside = answers_beside(loaded(tiny, seed=1)), answers_beside(with_prompt(loaded(tiny), value))
    for number in (0, 2, 4):
        assert np.array_equal(clean[number], beside[number])
    for number in (1, 3):
        assert isinstance(beside[number], InferenceFailed) or np.isfinite(beside[number]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prompt_that_is_no_number_fails_its_own_rows(tiny: Backbone, value: float) -> None:
    (outcome,) = outcomes(contained(tiny), [row(tiny, with_prompt(loaded(tiny), value), "a film")])
    assert isinstance(outcome, InferenceFailed)


def test_a_slot_that_held_no_numbers_serves_its_next_prompt(tiny: Backbone) -> None:
    forward = ModelRunner(tiny, prompt_table_bytes=1)  # 1,024 rows: no hundred prompts of these
    fault_isolation = FaultIsolation(forward)
    bad = [with_prompt(loaded(tiny, num_virtual_tokens=100), np.nan, digest=f"bad {number}") for number in range(10)]
    outcomes(fault_isolation, [row(tiny, adapter, "a film") for adapter in bad])
    good = row(tiny, loaded(tiny, num_virtual_tokens=100), "a film")
    (outcome,) = outcomes(fault_isolation, [good])
    assert_as_if_alone(tiny, good, outcome)
    assert len(forward.prompt_table) == 10


@pytest.mark.parametrize(
    ("scores", "fails"),
    [
        ([-0.5, -1.0, -2.0], False),
        ([0.0, -np.inf, -np.inf], False),  # labels that were not asked for
        ([-0.5, np.nan, -1.0], True),
        ([-0.5, np.inf, -1.0], True),
        ([-np.inf, -np.inf, -np.inf], True),
        ([np.nan, np.nan, np.nan], True),
    ],
)
def test_which_scores_are_an_answer(tiny: Backbone, scores: list[float], fails: bool) -> None:
    def forward(rows: Sequence[Row]) -> list[RowScores]:
        return [np.array(scores, np.float32) for _ in rows]

    (outcome,) = outcomes(FaultIsolation(forward), [row(tiny, loaded(tiny), "a film")])
    assert isinstance(outcome, InferenceFailed) == fails


@pytest.mark.parametrize(
    "error",
    [
        cuda_out_of_memory,
        cpu_out_of_memory,
        MemoryError,
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        lambda: torch.AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_a_batch_that_runs_out_of_memory_is_answered_in_parts(
    tiny: Backbone, rows: list[Row], error: Callable[[], BaseException]
) -> None:
    memory = Memory(100, error)
    for asked, outcome in zip(rows, outcomes(contained(sabotaged(tiny, memory)), rows), strict=True):
        assert_as_if_alone(tiny, asked, outcome)
    assert max(memory.asked) > 100


@pytest.mark.slow
def test_what_did_not_fit_is_not_tried_again_and_memory_that_returns_is_used(tiny: Backbone, rows: list[Row]) -> None:
    memory, some = Memory(60, cuda_out_of_memory), rows[:6]
    fault_isolation = contained(sabotaged(tiny, memory))
    outcomes(fault_isolation, some)
    assert max(memory.asked) > 60
    memory.asked.clear()
    outcomes(fault_isolation, some)
    assert max(memory.asked) <= 60
    memory.num_tokens = 10_000
    together = packed_tokens(*some)
    batches = 0
    while memory.asked[-1] < together:
        outcomes(fault_isolation, some)
        batches += 1
        assert batches < 200, "the limit does not recover"
    assert batches > 10, "the limit recovers so fast that it saves nothing"


def test_a_row_too_large_for_memory_fails_alone_and_cuts_nobody_elses_batch(tiny: Backbone, rows: list[Row]) -> None:
    large = row(tiny, loaded(tiny, num_virtual_tokens=100), "a film")
    memory = Memory(100, cuda_out_of_memory)
    fault_isolation = contained(sabotaged(tiny, memory))
    few = rows[:3]  # together they fit
    *others, last = outcomes(fault_isolation, [*few, large])
    assert isinstance(last, OutOfMemory)
    assert f"{large.num_tokens} tokens" in str(last)
    for asked, outcome in zip(few, others, strict=True):
        assert_as_if_alone(tiny, asked, outcome)
    memory.asked.clear()
    outcomes(fault_isolation, few)
    assert memory.asked == [packed_tokens(*few)]


def test_the_memory_of_a_failed_batch_is_free_before_its_parts_are_tried(tiny: Backbone, rows: list[Row]) -> None:
    held: list[weakref.ref[Tensor]] = []
    still_held: list[int] = []

    def fill_and_fail(packed: PackedBatch) -> None:
        still_held.append(sum(tensor() is not None for tensor in held))
        filling = torch.zeros(16)
        held.append(weakref.ref(filling))
        if packed.num_rows > 1:
            raise cuda_out_of_memory()

    outcomes(contained(sabotaged(tiny, fill_and_fail)), rows[:8])
    assert still_held == [0] * len(still_held)
    assert len(still_held) > 8


def test_a_lost_device_is_no_rows_fault(tiny: Backbone, rows: list[Row]) -> None:
    def lose(_: PackedBatch) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        list(contained(sabotaged(tiny, lose)).run(rows))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_device_ends_the_model_thread_and_nobody_waits(tiny: Backbone, rows: list[Row]) -> None:
    lost: list[bool] = []

    def lose(_: PackedBatch) -> None:
        if lost:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    held = Held(sabotaged(tiny, lose))
    held.hold(rows[0])
    futures = held.engine.submit(rows)
    lost.append(True)
    held.release()
    for future in futures:
        with pytest.raises(NotReady, match="illegal memory access"):
            future.result(30)
    held.engine.stop()
    assert held.engine.stats().tripped_adapters == 0
