"""The paper's tables as data, and its standardised score."""

import pytest

from training.paper.published import BASE, PAPER_TASKS, SMALL, PublishedRow, published_rows, table1, table2, table3
from training.paper.tables import Overall, standardised

TWO_METRICS = {"qqp", "stsb", "mrpc", "multirc", "cb"}


def scores(row: PublishedRow) -> dict[str, float]:
    of_tasks = {task: cell.score for task, cell in row.cells.items()}
    return {task: score for task, score in of_tasks.items() if score is not None}


def test_every_row_has_every_task_as_figures_or_as_a_dash() -> None:
    for row in (*table1(), *table3()):
        assert tuple(row.cells) == PAPER_TASKS
        for task, cell in row.cells.items():
            if row.source == "measured" and cell.printed != "-":
                assert len(cell.values) == (2 if task in TWO_METRICS else 1), (row, task)
            assert all(value is None or 0 <= value <= 100 for value in cell.values)
            assert not cell.invalid or set(cell.values) == {0.0}, "a flagged cell is a zero"


def test_table_1_has_nine_rows_for_each_backbone_and_attempt_alone_has_dashes() -> None:
    rows = table1()
    assert [row.backbone for row in rows] == [SMALL] * 9 + [BASE] * 9
    for size in (SMALL, BASE):
        trained = [(row.method, row.dropout) for row in rows if row.backbone == size]
        pairs = [(method, dropout) for method in ("simple", "attempt", "residual", "superpos") for dropout in (1, 0)]
        assert trained == [*pairs, ("full", True)]
    for row in rows:
        missing = [task for task, cell in row.cells.items() if cell.score is None]
        assert missing == (["qqp", "qnli", "mnli", "sst2"] if row.method == "attempt" else [])
    assert sum(cell.invalid for row in rows for cell in row.cells.values()) == 39


def test_averages_come_out_as_printed() -> None:
    # the paper is right in all of them: what is left, 0.05 at most, is the rounding of its cells
    averaged = [row for row in (*table1(), *table3()) if row.average is not None]
    assert len(averaged) == 19
    for row in averaged:
        assert sum(scores(row).values()) / 13 == pytest.approx(row.average, abs=0.05), row


def test_the_standardised_score_gives_table_2() -> None:
    rows = {(row.backbone, row.method, row.dropout): scores(row) for row in table1() if row.method != "attempt"}
    assert len(rows) == 14
    overall = standardised(rows)
    published = table2()
    assert len(published) == 14
    for line in published:
        ours = overall[line.backbone, line.method, line.dropout]
        assert (ours.mean, ours.std) == (pytest.approx(line.mean, abs=0.1), pytest.approx(line.std, abs=0.1)), line


def test_table_3_repeats_two_rows_of_table_1() -> None:
    first = {row.backbone: row.cells for row in table1() if row.method == "superpos" and row.dropout is False}
    again = [row for row in table3() if row.backbone in first and not row.softmax]
    assert len(again) == 2
    for row in again:
        assert row.cells == first[row.backbone]


def test_what_others_reported_in_part_has_no_score() -> None:
    attempt = next(row for row in table3() if row.method == "attempt")
    assert attempt.prompts == 100
    assert attempt.cells["mrpc"].values == (None, 85.7)
    assert attempt.cells["mrpc"].score is None
    assert attempt.cells["cola"].score == 57.4


def test_a_task_that_tells_no_rows_apart_is_left_out_of_the_standardised_score() -> None:
    overall = standardised({"a": {"cb": 0.5, "rte": 0.2}, "b": {"cb": 0.5, "rte": 0.7}})
    assert overall == {"a": Overall(0.0, 0.0), "b": Overall(pytest.approx(100.0), 0.0)}
    assert standardised({"a": {"cb": 0.5}, "b": {"cb": 0.5}}) == {}
    assert standardised({}) == {}


def test_the_rows_below_a_grid_are_its_backbones_of_table_1_and_all_of_table_3() -> None:
    for backbone in (SMALL, BASE):
        assert published_rows("table1", backbone) == tuple(row for row in table1() if row.backbone == backbone)
    assert published_rows("table1", "embedded") == table1()
    for backbone in (SMALL, "embedded"):
        assert published_rows("table3", backbone) == table3()
        assert published_rows("fig2", backbone) == ()
    titles = {(row.backbone, row.title, row.dropout) for row in table3()}
    assert len(titles) == len(table3()), "no two rows look alike"
    assert (SMALL, "superpos, softmax", False) in titles
