"""A grid of the paper as a value: its cells, its stacks, its variants. Nothing is trained."""

from dataclasses import replace

import pytest
from support.paper import small_grid

from training.errors import InvalidArguments
from training.paper.grid import Budget, stacks
from training.paper.variants import FIGURE2, RELATIVES, STARTS, TABLE1, TABLE3, Starts, variant, variants


def test_cells_come_seed_by_seed_so_that_half_a_grid_is_a_table() -> None:
    assert [str(cell) for cell in small_grid().cells()] == [
        f"{task}/{method}/seed{seed}" for seed in (0, 1) for task in "ab" for method in ("superpos", "simple-lr0.3")
    ]


def test_a_stack_holds_cells_of_one_task_and_seed_and_no_more_than_asked() -> None:
    sizes = [[str(cell) for cell in stack] for stack in stacks(small_grid().cells(), max_slots=1)]
    assert all(len(stack) == 1 for stack in sizes)
    together = stacks(small_grid().cells(), max_slots=16)
    assert [(len(stack), {(cell.task, cell.seed) for cell in stack}) for stack in together] == [
        (2, {(task, seed)}) for seed in (0, 1) for task in "ab"
    ]


def test_a_grid_of_nothing_or_of_something_twice_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="a grid without tasks"):
        replace(small_grid(), tasks=())
    with pytest.raises(InvalidArguments, match="seeds: 0, 0: one of them occurs twice"):
        small_grid(seeds=(0, 0))
    with pytest.raises(InvalidArguments, match="method 'prefix' is not a variant of the paper, expected one of simple"):
        variant("prefix")


def test_no_more_rows_are_read_than_steps_can_see() -> None:
    assert Budget(max_steps=10, batch_size=4).max_train_rows == 40
    assert Budget(max_steps=10, batch_size=4, limit=25).max_train_rows == 25
    assert Budget().max_train_rows is None


def test_variants_are_what_the_paper_says_and_keep_their_names() -> None:
    known = variants()
    finished = {"superpos", "superpos-shared", "simple", "simple-lr0.1", "simple-lr0.3", "simple-lr1", "residual"}
    assert finished | {"superpos-softmax"} <= known.keys()
    residual = known["residual"].arguments
    assert (residual.lr, residual.weight_decay, residual.bottleneck) == (0.3, 0.01, 128)
    assert known["superpos-dropout"].arguments == replace(known["superpos"].arguments, dropout=True)
    assert {
        (each.arguments.basis, each.arguments.weights_init) for each in map(known.get, STARTS.values()) if each
    } == (STARTS.keys())
    others = {"superpos-lr0.03", "superpos-lr0.1", "superpos-lr0.3"}
    of_starts = {"attempt", "attempt-dropout", "spot", "panda", "mpt", "ipt"}
    assert {*TABLE1, *TABLE3, *FIGURE2, *RELATIVES} | others == {*known, *of_starts}
    with pytest.raises(InvalidArguments, match="method 'attempt' mixes prompts of other tasks, expected their folders"):
        variant("attempt")
    starts = Starts(attempt=("runs/sst2/adapter",), transfer="runs/mnli", shared="runs/shared", subspace="runs/d5")
    assert variant("attempt", starts).arguments.sources == ("runs/sst2/adapter",)
    assert [variant(name, starts).arguments.sources for name in ("spot", "panda", "mpt", "ipt")] == [
        ("runs/mnli",),
        ("runs/mnli",),
        ("runs/shared",),
        ("runs/d5",),
    ]
    with pytest.raises(InvalidArguments, match=r"method 'mpt' starts from a shared prompt, expected .*--shared"):
        variant("mpt")


def test_full_fine_tuning_trains_alone() -> None:
    grid = replace(small_grid(seeds=(0,)), variants=(variant("superpos"), variant("full"), variant("simple")))
    assert [[cell.variant.name for cell in stack] for stack in stacks(grid.cells(), max_slots=8)] == [
        ["superpos", "simple"],
        ["full"],
        ["superpos", "simple"],
        ["full"],
    ]
