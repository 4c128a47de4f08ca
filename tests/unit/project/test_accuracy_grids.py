"""The accuracy grids of benchmarks/training: cells that are run once, rows per label, tables."""

from pathlib import Path

import pytest
from support.training import easy_task

from backbone import Backbone
from benchmarks.training.ablation import ablation_figure, ablation_table
from benchmarks.training.cells import Cell, CellResult, GridFile, arguments_of, few_rows, read_results
from benchmarks.training.learning_curves import curves_figure, curves_table, wins_table, with_auto
from benchmarks.training.options import parse_arguments
from benchmarks.training.tables import mean_and_half_width
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
    assert {(each.rows["train"], each.rows["selection"], each.rows["report"]) for each in found} == {(12, 4, 60)}
    assert all(each.low <= each.score <= each.high for each in found)
    said.clear()
    assert grid.run(cells) == 0
    assert said == []
    svg(ablation_figure(found))
    table = ablation_table(found)
    assert "| TF-IDF + logistic regression | – | " in table
    assert "**" in table


@pytest.mark.usefixtures("one_thread")
def test_few_rows_are_drawn_by_label_and_a_quarter_of_them_selects(tiny: Backbone, tmp_path: Path) -> None:
    whole = TaskRows(tiny, easy_task(tmp_path)).divided(split="honest", seed=0, limit=None)
    rows = few_rows(whole, 8, seed=0)
    for examples, tokenized, count in (
        (rows.train_examples, rows.train, 6),
        (rows.selection_examples, rows.selection, 2),
    ):
        assert [example.label for example in examples] == tokenized.labels.tolist()
        assert sorted(tokenized.labels) == [0] * count + [1] * count
    assert not set(rows.train.token_ids) - {*whole.train.token_ids, *whole.selection.token_ids}
    assert rows.report is whole.report
    assert few_rows(whole, 8, seed=1).train_examples != rows.train_examples


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
    assert "| auto above both | 1 of 2 |" in wins
    assert "| rte | auto | 80.0 |" in curves_table(found)
    svg(curves_figure(found))


def test_means_have_the_interval_of_student_over_seeds() -> None:
    assert mean_and_half_width([]) == "–"
    assert mean_and_half_width([-50.0]) == "−50.0"
    assert mean_and_half_width([1.0, 2.0, 3.0]) == "2.0 ± 2.5"  # 4.303 · 1 / √3
