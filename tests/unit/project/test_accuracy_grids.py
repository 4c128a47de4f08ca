"""The accuracy grids of benchmarks/training: cells that are run once, rows per label, tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.source_prompts import library_tasks, make_library
from support.training import easy_task
from typer import BadParameter

from backbone import Backbone
from benchmarks.training.ablation import ablation_figure, ablation_table
from benchmarks.training.cells import AUTO_START, Cell, CellResult, GridFile, arguments_of, num_steps, read_results
from benchmarks.training.intrinsic import by_dimensions, dimensions_figure, dimensions_table
from benchmarks.training.learning_curves import curves_figure, curves_table, wins_table, with_auto
from benchmarks.training.options import parse_arguments
from benchmarks.training.tables import mean_and_half_width
from benchmarks.training.transfer import LINES, Sources, means_table, speed_table, starts_figure, starts_table
from training.report.svg import svg
from training.runs.task_rows import TaskRows

SMALL = parse_arguments(["epochs=1", "batch-size=12", "num_virtual_tokens=4", "num_sampled_tokens=16"])


def result(
    set_name: str, line: str, score: float, *, shots: int | None = 8, seed: int = 0, selection: float = 0.5
) -> CellResult:
    return CellResult(
        cell=Cell(set=set_name, line=line, seed=seed, shots=shots),
        measure="accuracy",
        score=score,
        low=score - 0.1,
        high=score + 0.1,
        metrics={"accuracy": score},
        selection_score=None if line == "tfidf" else selection,
        selection_loss=None,
        rows={"train": 16, "selection": 4, "report": 60},
        seconds=1.0,
        commit="abc",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_cells_are_run_once_and_kept_line_by_line(tiny: Backbone, tmp_path: Path) -> None:
    lines = ("superpos/soft", "simple/words", "none/pooled", "none/words", "tfidf")
    cells = [Cell(set="easy", line=line, seed=0, shots=8, arguments=SMALL) for line in lines]
    said: list[str] = []
    grid = GridFile(tmp_path / "grid.jsonl", tiny, {"easy": easy_task(tmp_path)}, precision="fp32", say=said.append)
    assert grid.run(cells[:3]) == 0
    with (tmp_path / "grid.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"cell": {"set": "ea')  # as a killed process leaves it
    assert [each.cell for each in read_results(tmp_path / "grid.jsonl")] == cells[:3]
    assert grid.run(cells) == 0
    found = read_results(tmp_path / "grid.jsonl")
    assert [each.cell.line for each in found] == [*lines[:3], "none/words", "tfidf"]
    assert {(each.rows["train"], each.rows["selection"], each.rows["report"]) for each in found} == {(16, 12, 60)}
    assert all(each.low <= each.score <= each.high for each in found)
    said.clear()
    assert grid.run(cells) == 0
    assert said == []
    svg(ablation_figure(found))
    table = ablation_table(found)
    assert "| TF-IDF + logistic regression | – | " in table
    assert "**" in table


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_rows_per_label_are_the_shots_of_the_trainer(tiny: Backbone, tmp_path: Path) -> None:
    task = easy_task(tmp_path)
    said: list[str] = []
    grid = GridFile(tmp_path / "grid.jsonl", tiny, {"easy": task}, precision="fp32", say=said.append)
    lines = ("none/pooled", "tfidf")
    assert grid.run(Cell(set="easy", line=line, seed=0, shots=shots) for shots in (4, 70) for line in lines) == 0
    found = read_results(tmp_path / "grid.jsonl")
    assert [each.cell.shots for each in found] == [4, 4]
    rows = TaskRows(tiny, task).divided(split="honest", seed=0, limit=None, shots=4)
    expected = {"train": len(rows.train), "selection": len(rows.selection), "report": len(rows.report)}
    assert expected["train"] == 8
    assert all(each.rows == expected for each in found)
    assert any(line.startswith("  left out: ") and "shots is 70, but too few training rows" in line for line in said)


def test_arguments_of_prompts_do_not_concern_heads() -> None:
    cell = Cell(set="easy", line="superpos/soft", seed=3, arguments=SMALL)
    arguments = arguments_of(cell)
    assert (arguments.method, arguments.readout, arguments.epochs, arguments.seed) == ("superpos", "soft", 1, 3)
    head = arguments_of(Cell(set="easy", line="none/soft", seed=3, arguments=SMALL))
    assert (head.method, head.readout) == ("head", "soft")


def test_auto_is_what_the_selection_rows_choose_and_wins_where_its_mean_is_above_both() -> None:
    results = [
        *(
            result("rte", line, score, selection=selection)
            for line, score, selection in (
                ("tfidf", 0.5, 0.0),
                ("none/pooled", 0.6, 0.7),
                ("superpos/soft", 0.8, 0.9),
                ("superpos/words", 0.9, 0.8),
            )
        ),
        *(
            result("cb", line, score, selection=selection)
            for line, score, selection in (
                ("tfidf", 0.5, 0.0),
                ("none/pooled", 0.6, 0.9),
                ("superpos/soft", 0.8, 0.9),
                ("superpos/words", 0.4, 0.8),
            )
        ),
    ]
    found = with_auto(results)
    auto = {each.cell.set: each.score for each in found if each.cell.line == "auto"}
    assert auto == {"rte": 0.8, "cb": 0.6}, "by the selection rows, and of equals the head"
    wins = wins_table(found)
    assert "| superpos/words above both | 1 of 2 |" in wins
    assert "| superpos/soft above both | 2 of 2 |" in wins
    assert wins.count("| auto above both | 1 of 2 |") == 1
    assert curves_table(found).count("| rte | auto | 80.0 |") == 1
    svg(curves_figure(found))


def test_lines_are_compared_over_the_seeds_that_all_of_them_have() -> None:
    results = [
        result("rte", line, score, seed=seed)
        for line, scores in (("tfidf", (0.1, 0.1)), ("none/pooled", (0.5, 0.9)), ("superpos/soft", (0.6,)))
        for seed, score in enumerate(scores)
    ]
    assert "| superpos/soft above both | 1 of 1 |" in wins_table(results), "0.6 to 0.5, not to the mean of 0.7"
    assert "| superpos/soft above both | – |" in wins_table([each for each in results if each.cell.line != "tfidf"])


def test_the_plot_of_starts_has_a_row_per_line_and_a_colour_per_number_of_rows() -> None:
    results = [
        result("rte", line, score, shots=shots, seed=seed)
        for line, scores in (("superpos/words", (0.5, 0.7)), ("spot/words", (0.6, 0.8)))
        for shots in (8, 32)
        for seed, score in enumerate(scores)
    ]
    figure = starts_figure(results)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["superpos/words", "spot/words"]
    drawn = [np.asarray(dots.get_offsets()) for dots in panel.collections]  # each line: dots and mean at 8, then at 32
    assert [np.round(xy[:, 0], 6).tolist() for xy in drawn] == [*[[50, 70], [60]] * 2, *[[60, 80], [70]] * 2]
    assert [text.get_text() for text in panel.texts] == ["8 rows per label", "32 rows per label"]
    svg(figure)


def test_a_mean_over_sets_counts_the_same_sets_and_seeds_for_every_line() -> None:
    scores = {
        ("superpos/words", "rte"): (0.5, 0.7),
        ("superpos/words", "cb"): (0.3, 0.5),
        ("mpt/words", "rte"): (0.9, 0.9),
        ("mpt/words", "cb"): (0.5, 0.5),
        ("mpt/words", "sst2"): (1.0, 1.0),
        ("spot/words", "rte"): (0.9, 0.9),
        ("ipt/words", "rte"): (0.9, 0.9),
        ("ipt/words", "cb"): (0.9,),
    }
    results = [
        result(name, line, score, shots=8, seed=seed)
        for (line, name), of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    rows = means_table(results).splitlines()[2:]
    # 40 and 60 over the two sets, 12.706 · 14.14 / √2; `mpt/words` without its third set
    assert rows == ["| mpt/words | 70.0 ± 0.0 |", "| superpos/words | 50.0 ± 127.1 |"]


def test_means_have_the_interval_of_student_over_seeds() -> None:
    assert mean_and_half_width([]) == "–"
    assert mean_and_half_width([-50.0]) == "−50.0"
    assert mean_and_half_width([1.0, 2.0, 3.0]) == "2.0 ± 2.5"  # 4.303 · 1 / √3


def test_the_steps_of_a_cell_are_ten_epochs_unless_more_or_fewer_are_asked_for() -> None:
    """Of 80 rows an epoch has three batches of 32."""

    def steps(line: str, *given: str) -> int | None:
        made = result("trec", line, 0.5)
        cell = replace(made.cell, arguments=parse_arguments(given))
        return num_steps(replace(made, cell=cell, rows=made.rows | {"train": 80}))

    assert steps("superpos/soft") == 100
    assert steps("superpos/soft", "max_steps=50") == 30
    assert steps("superpos/soft", "max_steps=20") == 20
    assert steps("lora/words", "max_steps=200", "min_steps=150") == 150
    assert [steps(line) for line in ("none/joint", "one_shot/words", "tfidf")] == [None] * 3


def test_steps_to_the_last_score_of_superpos_are_counted_on_the_same_rows() -> None:
    curves = {
        ("superpos/words", 0): ((0, 0.4), (2, 0.7), (4, 0.6)),  # 95 % of 0.6 are reached after two steps
        ("start_auto/words", 0): ((0, 0.57), (2, 0.5)),
        ("superpos/words", 1): ((0, 0.5), (2, 0.6), (4, 1.0)),
        ("start_auto/words", 1): ((0, 0.9), (2, 0.9)),  # never
        ("spot/words", 2): ((0, 1.0),),  # without SuperPos on its rows
    }
    found = [replace(result("trec", line, 0.5, seed=seed), curve=curve) for (line, seed), curve in curves.items()]
    assert starts_table(found).splitlines() == [
        "| line | 8 |",
        "|---|---:|",
        "| superpos/words | 3 (2 of 2) |",
        "| start_auto/words | 0 (1 of 2) |",
    ]


def test_scores_of_ipt_are_shown_by_the_dimensions_that_folders_name() -> None:
    scores = {("runs/subspace-15", "trec"): 0.7, ("runs/d5", "trec"): 0.6, ("runs/d5", "cb"): 0.2, ("big", "trec"): 0.8}
    found = [
        replace(made, cell=replace(made.cell, sources=(folder,)))
        for (folder, name), score in scores.items()
        for made in (result(name, "ipt/words", score), result(name, "ipt/words", score + 0.1, seed=1))
    ]
    curves = by_dimensions(found, {"big": 50})
    assert dimensions_table(curves).splitlines() == [
        "| set | d = 5 | d = 15 | d = 50 |",
        "|---|---:|---:|---:|",
        "| trec | 65.0 ± 63.5 | 75.0 ± 63.5 | 85.0 ± 63.5 |",
    ]
    svg(dimensions_figure(curves))
    with pytest.raises(BadParameter, match="d of 'big' is not known, expected big=D"):
        by_dimensions(found, {})


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_methods_start_from_the_library_without_the_sets_own_prompts(tiny: Backbone, tmp_path: Path) -> None:
    library = make_library(tiny, tmp_path)
    first, second = library_tasks(tmp_path / "rows")
    sources = Sources(tiny, library, {}, tmp_path / "chosen.json")
    assert sources.length == 6
    (mixed,) = sources.of("mixture/words", first) or ()
    assert Path(mixed).parent.name == "second"
    assert sources.of("spot/words", first) == sources.of("panda/words", first)
    assert sources.of("superpos/words", first) == ()
    assert sources.of("mpt/words", first) is None
    assert (tmp_path / "chosen.json").is_file()
    small = parse_arguments(["epochs=1", "batch-size=12", "num_virtual_tokens=6", "num_sampled_tokens=16", "rank=2"])
    prompts = ("superpos/words", "mixture/pooled", "spot/words", "panda/words")
    lines = (*prompts, "lora/words", "one_shot/words", "none/joint", "tfidf")
    cells = [
        Cell(set="first", line=line, seed=0, shots=8, arguments=small, sources=sources.of(line, first) or ())
        for line in (*lines, AUTO_START)
    ]
    tried = sources.best_in_trials(cells.pop(), first)
    assert tried.sources in ((), (mixed,))
    kept = json.loads((tmp_path / "chosen.json").read_text(encoding="utf-8"))
    assert (kept["first, seed 0, 8 rows per label"],) == (tried.sources or ("",))
    assert arguments_of(tried).method == ("spot" if tried.sources else "superpos")
    assert sources.best_in_trials(replace(tried, sources=(mixed,)), first) == tried, "it is tried once"
    grid = GridFile(tmp_path / "grid.jsonl", tiny, {"first": first, "second": second}, precision="fp32", say=print)
    assert grid.run(cells) == 0
    found = read_results(tmp_path / "grid.jsonl")
    assert {each.cell.line for each in found} == set(lines) <= set(LINES)
    assert all(each.steps_to_95 is not None for each in found if each.cell.line != "tfidf")
    assert grid.run(cells) == 0
    assert "| one_shot/words | 0 |" in speed_table(found)
    assert "none/joint" not in speed_table(found)  # a head is fitted without steps
    assert "| first | none/joint |" in curves_table(found)
    assert "| first | panda/words |" in curves_table(found)
