"""Grids of the paper: their cells, what is left of them, and what they come to."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.paper import BUDGET, Heard, small, small_grid, two_tasks

import training.runs.scorer
from backbone import Backbone
from training.errors import InvalidArguments, InvalidData
from training.paper.grid import Grid
from training.paper.grid_folder import collect, pending, restore_cells
from training.paper.results import Results, read_results, write_results
from training.paper.runner import GridOutcome, run_grid
from training.runs.folder import locked
from training.scoring.metrics import Metrics
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def run(tiny: Backbone, grid: Grid, folder: Path, heard: Heard | None = None, *, max_slots: int = 16) -> GridOutcome:
    tasks = two_tasks(folder)
    events = None if heard is None else heard.events()
    return run_grid(tiny, grid, tasks, folder / "grid", max_slots=max_slots, events=events)


@pytest.fixture(scope="module")
def grid_folder(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole grid."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = run(tiny, small_grid(), folder)
    assert (len(outcome.finished), outcome.failed, outcome.interrupted) == (8, {}, False)
    return folder


@pytest.mark.slow
def test_a_cell_says_what_was_asked_what_came_and_how(tiny: Backbone, grid_folder: Path) -> None:
    results = collect(grid_folder / "grid", tiny)
    assert len(results.cells) == 8
    cell = results.of(variant="superpos", task="b")[0]
    assert [point.step for point in cell.curve] == [0, 3, 6]
    assert (cell.steps, cell.stop, cell.stack_size) == (6, "finished", 2)
    assert (cell.data["report_rows"], cell.data["report_drawn_from"], cell.data["selection_rows"]) == (20, 60, 8)
    assert cell.metrics == ("f1", "accuracy")
    assert cell.report["score"] == pytest.approx((cell.report["f1"] + cell.report["accuracy"]) / 2, abs=1e-5)
    assert (cell.asked["method"], cell.asked["max_steps"], cell.asked["split"]) == ("superpos", 6, "honest")
    assert cell.asked["backbone"] == results.backbone.fingerprint == tiny.identity.fingerprint


@pytest.mark.slow
def test_p_prime_is_compared_between_tasks_token_by_token(tiny: Backbone, grid_folder: Path) -> None:
    first, _second = collect(grid_folder / "grid", tiny).similarity
    assert (first.variant, first.seed, first.tasks) == ("superpos", 0, ("a", "b"))
    assert len(first.matrices) == 4  # one for each virtual token
    for matrix in first.matrices:
        assert (matrix[0][0], matrix[1][1]) == (1.0, 1.0)
        assert matrix[0][1] == matrix[1][0] <= 1.0


def test_a_finished_grid_trains_nothing_again(tiny: Backbone, grid_folder: Path) -> None:
    heard = Heard()
    outcome = run(tiny, small_grid(), grid_folder, heard)
    assert (outcome.finished, heard.steps) == ((), [])


def test_a_grown_grid_trains_what_is_new(tiny: Backbone, grid_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(grid_folder, tmp_path, dirs_exist_ok=True)
    grown = replace(small_grid(), variants=(*small_grid().variants, small("superpos-shared")), seeds=(0,))
    heard = Heard()
    run(tiny, grown, tmp_path, heard)
    assert heard.done == ["a/superpos-shared/seed0", "b/superpos-shared/seed0"]


@pytest.mark.slow
def test_a_grid_that_ran_elsewhere_is_gone_on_with_from_its_results(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    whole = collect(grid_folder / "grid", tiny)
    write_results(tmp_path / "results.json", whole)
    cells = [cell for cell in read_results(tmp_path / "results.json").cells if cell.task == "a"]
    assert restore_cells(tmp_path / "grid", cells) == 4
    assert restore_cells(tmp_path / "grid", cells) == 0, "what is there stays"
    heard = Heard()
    run(tiny, small_grid(), tmp_path, heard)
    assert sorted({cell[0] for cell in heard.done}) == ["b"]
    again = collect(tmp_path / "grid", tiny)
    assert [(cell.task, cell.report) for cell in again.cells] == [(cell.task, cell.report) for cell in whole.cells]
    assert not any("a" in each.tasks for each in again.similarity), "p′ is not in the file"


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_with_the_cells_that_are_not_finished(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    interrupted = Heard(interrupt_at=("b/superpos/seed0", 4))
    outcome = run(tiny, small_grid(), tmp_path, interrupted)
    assert outcome.interrupted
    assert interrupted.done == ["a/superpos/seed0", "a/simple-lr0.3/seed0"]

    resumed = Heard()
    assert not run(tiny, small_grid(), tmp_path, resumed).interrupted
    assert len(resumed.done) == 6
    assert not any(cell in interrupted.done for cell, _ in resumed.steps)
    fresh, whole = (collect(folder / "grid", tiny).cells for folder in (tmp_path, grid_folder))
    assert [cell.report for cell in fresh] == [cell.report for cell in whole], "as if it had never been interrupted"


def test_cells_of_another_recipe_are_not_mixed_into_a_grid(tiny: Backbone, grid_folder: Path) -> None:
    longer = small_grid(budget=replace(BUDGET, max_steps=7))
    with pytest.raises(InvalidArguments, match=r"seed0 was run with max_steps 6, now it is 7; name another folder"):
        pending(grid_folder / "grid", longer, two_tasks(grid_folder), fingerprint=tiny.identity.fingerprint)
    with pytest.raises(InvalidArguments, match="was run with backbone"):
        pending(grid_folder / "grid", small_grid(), two_tasks(grid_folder), fingerprint="another")


def test_finished_cells_of_rows_that_were_read_otherwise_are_refused(tiny: Backbone, grid_folder: Path) -> None:
    tasks = two_tasks(grid_folder)
    swapped = {"label_values": {"sports": "business", "business": "sports"}}
    data = tasks["a"].data.model_copy(update=swapped)
    others = (tasks["a"].model_copy(update={"data": data}), tasks["a"].model_copy(update={"positive": "sports"}))
    for other in others:
        with pytest.raises(InvalidArguments, match=r"a/superpos/seed0 was run with reading '\w+', now it is"):
            pending(grid_folder / "grid", small_grid(), tasks | {"a": other}, fingerprint=tiny.identity.fingerprint)


def test_finished_cells_of_other_rows_are_refused_and_of_the_same_rows_elsewhere_are_not(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    def left(tasks: dict[str, TaskFile]) -> int:
        return len(pending(grid_folder / "grid", small_grid(), tasks, fingerprint=tiny.identity.fingerprint))

    tasks = two_tasks(tmp_path)
    assert left(tasks) == 0
    (tmp_path / "validation.jsonl").write_bytes((tmp_path / "train.jsonl").read_bytes())
    with pytest.raises(InvalidArguments, match="a/superpos/seed0 was run with validation_sha256 '"):
        left(tasks)
    (tmp_path / "validation.jsonl").unlink()
    assert left(tasks) == 0, "rows that are not at hand cannot be compared"


def test_a_cell_finished_before_its_reading_was_told_is_still_the_same(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(grid_folder, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "grid").glob("a/*/*/cell.json"):
        cell = json.loads(path.read_text(encoding="utf-8"))
        del cell["asked"]["reading"]
        path.write_text(json.dumps(cell), encoding="utf-8")
    assert not pending(tmp_path / "grid", small_grid(), two_tasks(tmp_path), fingerprint=tiny.identity.fingerprint)
    assert len(collect(tmp_path / "grid", tiny).cells) == 8


def test_cells_of_one_task_on_other_rows_are_collected_into_no_table(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(grid_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "grid" / "a" / "superpos" / "seed1" / "cell.json"
    cell = json.loads(path.read_text(encoding="utf-8"))
    cell["data"]["train_sha256"] = "other"
    path.write_text(json.dumps(cell), encoding="utf-8")
    with pytest.raises(InvalidArguments, match=r"grid/a holds cells with train_sha256 \w+ and other, expected one"):
        collect(tmp_path / "grid", tiny)


def test_a_cell_that_fails_is_told_and_the_others_are_trained(tiny: Backbone, tmp_path: Path) -> None:
    too_many = replace(small("superpos-m8"), arguments=replace(small("superpos").arguments, num_sampled_tokens=31_000))
    grid = replace(small_grid(seeds=(0,)), variants=(too_many, small("superpos")))
    heard = Heard()
    outcome = run(tiny, grid, tmp_path, heard)
    assert list(heard.failed) == ["a/superpos-m8/seed0", "b/superpos-m8/seed0"]
    assert "cannot sample" in heard.failed["a/superpos-m8/seed0"]
    assert heard.done == ["a/superpos/seed0", "b/superpos/seed0"]
    assert [str(cell) for cell in outcome.failed] == list(heard.failed)


@pytest.mark.slow
def test_a_cell_that_another_process_trains_is_left_to_it(tiny: Backbone, tmp_path: Path) -> None:
    heard = Heard()
    with locked(tmp_path / "grid" / "a" / "superpos" / "seed0"):
        run(tiny, small_grid(seeds=(0,)), tmp_path, heard)
    assert "another process is using" in heard.failed.pop("a/superpos/seed0")
    assert not heard.failed
    assert len(heard.done) == 3
    again = Heard()
    run(tiny, small_grid(seeds=(0,)), tmp_path, again)
    assert again.done == ["a/superpos/seed0"]


@pytest.mark.slow
def test_a_cell_that_another_process_has_finished_meanwhile_is_not_trained_again(
    tiny: Backbone, grid_folder: Path, tmp_path: Path
) -> None:
    finished = grid_folder / "grid" / "b" / "superpos" / "seed0"
    heard = Heard()
    on_stack = replace(
        heard.events(),
        on_stack=lambda cells: shutil.copytree(
            finished, tmp_path / "grid" / "b" / "superpos" / "seed0", dirs_exist_ok=True
        ),
    )
    run_grid(tiny, small_grid(seeds=(0,)), two_tasks(tmp_path), tmp_path / "grid", events=on_stack)
    assert heard.done == ["a/superpos/seed0", "a/simple-lr0.3/seed0", "b/simple-lr0.3/seed0"]
    assert not heard.failed


def test_a_task_without_its_rows_fails_alone(tiny: Backbone, tmp_path: Path) -> None:
    tasks = two_tasks(tmp_path)
    gone = tasks["a"].data.model_copy(update={"train": str(tmp_path / "gone.jsonl")})
    tasks["a"] = tasks["a"].model_copy(update={"data": gone})
    heard = Heard()
    run_grid(tiny, small_grid(seeds=(0,)), tasks, tmp_path / "grid", events=heard.events())
    assert all("no such file" in heard.failed[f"a/{method}/seed0"] for method in ("superpos", "simple-lr0.3"))
    assert len(heard.done) == 2


@pytest.mark.slow
def test_a_folder_that_is_no_run_is_not_removed_for_a_cell(tiny: Backbone, tmp_path: Path) -> None:
    letters = tmp_path / "grid" / "a" / "superpos" / "seed0"
    letters.mkdir(parents=True)
    (letters / "letter.txt").write_text("mine", encoding="utf-8")
    heard = Heard()
    run(tiny, small_grid(seeds=(0,)), tmp_path, heard)
    assert "is in the way of a cell" in heard.failed["a/superpos/seed0"]
    assert (letters / "letter.txt").read_text(encoding="utf-8") == "mine"


def test_results_come_back_from_their_file_as_they_were(tiny: Backbone, grid_folder: Path, tmp_path: Path) -> None:
    results = collect(grid_folder / "grid", tiny)
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results
    (tmp_path / "other.json").write_text('{"cells": []}', encoding="utf-8")
    with pytest.raises(InvalidData, match="not the results of a grid"):
        read_results(tmp_path / "other.json")
    with pytest.raises(InvalidData, match="cannot be read: No such file"):
        read_results(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="schema_version"):
        Results.model_validate({**results.model_dump(), "schema_version": 2})


def test_cells_that_start_from_one_prompt_score_the_untrained_rows_once(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    evaluate = training.runs.scorer.evaluate

    def counted(*given: Any, **named: Any) -> Metrics:
        scored.append(given)
        return evaluate(*given, **named)

    monkeypatch.setattr(training.runs.scorer, "evaluate", counted)
    names = ("simple-lr0.1", "simple-lr0.3", "superpos")
    grid = replace(small_grid(seeds=(0,)), variants=tuple(small(name) for name in names), tasks=("a",))
    run(tiny, grid, tmp_path)
    assert len(scored) == 2, "one start of tokens, one of superposed tokens"
    cells = {cell.variant: cell.untrained for cell in collect(tmp_path / "grid", tiny).cells}
    assert cells["simple-lr0.1"] == cells["simple-lr0.3"] != cells["superpos"]


def test_cells_of_two_budgets_are_collected_into_no_table(tiny: Backbone, grid_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(grid_folder, tmp_path, dirs_exist_ok=True)
    longer = small_grid(seeds=(2,), budget=replace(BUDGET, max_steps=7))
    run(tiny, replace(longer, tasks=("a",), variants=(small("superpos"),)), tmp_path)
    with pytest.raises(InvalidArguments, match="holds cells with max_steps 6 and 7, expected one for all"):
        collect(tmp_path / "grid", tiny)
