"""Choice among the runs of a task by their selection rows."""

import dataclasses

import pytest
from support.training import Finished

from training.runs.choice import candidates, choice_told
from training.runs.run_result import RunResult, read_run_result
from training.scoring.fitted_rows import FittedRows

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture
def result(finished: Finished) -> RunResult:
    return read_run_result(finished.report.folder)


def scored(
    result: RunResult, method: str, readout: str, score: float, *, report: float = 0.5, seed: int = 0
) -> RunResult:
    """A run with scores on its selection and report rows."""
    return dataclasses.replace(
        result,
        method=method,
        readout=readout,
        seed=seed,
        selection=dataclasses.replace(result.selection, score=score, loss=1 - score),
        trained=dataclasses.replace(result.trained, score=report),
    )


def test_the_selection_rows_choose_and_the_report_rows_do_not(result: RunResult) -> None:
    runs = [
        scored(result, "head", "pooled", 0.80, report=0.99),
        scored(result, "superpos", "soft", 0.90, report=0.01),
        scored(result, "superpos", "words", 0.85),
    ]
    ranked = candidates(runs)
    assert ranked[0].best is runs[1]
    assert choice_told(ranked, metric="accuracy") == (
        "superpos, soft, lr 0.05 has the best accuracy on the selection rows (0.9000; next superpos, words, lr 0.05: "
        "0.8500)"
    )


def test_of_equals_the_cheaper_one_is_chosen(result: RunResult) -> None:
    runs = [
        scored(result, "superpos", "words", 0.9),
        scored(result, "superpos", "pooled", 0.9),
        scored(result, "head", "soft", 0.9),
        scored(result, "head", "pooled", 0.9),
    ]
    ranked = candidates(runs)
    assert [str(each) for each in ranked] == [
        "head, pooled",
        "head, soft",
        "superpos, pooled, lr 0.05",
        "superpos, words, lr 0.05",
    ]
    assert choice_told(ranked, metric="macro_f1") == (
        "head, pooled has the best macro F1 on the selection rows (0.9000, as head, soft) and is cheaper to train and "
        "serve"
    ).replace("macro F1", "macro f1")


def test_of_equals_that_cost_the_same_the_one_with_the_lower_loss_is_chosen(result: RunResult) -> None:
    fast = dataclasses.replace(scored(result, "superpos", "soft", 0.9), lr=0.3)
    slow = scored(result, "superpos", "soft", 0.9)
    slow = dataclasses.replace(slow, selection=dataclasses.replace(slow.selection, loss=0.05))
    ranked = candidates([fast, slow])
    assert ranked[0].best is slow
    assert choice_told(ranked, metric="accuracy") == (
        "superpos, soft, lr 0.05 has the best accuracy on the selection rows (0.9000, as superpos, soft, lr 0.3) and "
        "has the lower loss"
    )


def test_heads_of_few_rows_are_chosen_out_of_fold(result: RunResult) -> None:
    folds = FittedRows(num_rows=29, fewest=7, most=8, num_folds=5, num_scored=29)
    heads = [("soft", 0.8276), ("joint", 0.8621)]
    runs = [
        dataclasses.replace(scored(result, "head", readout, score), num_selection=2, fitted_rows=folds)
        for readout, score in heads
    ]
    assert choice_told(candidates(runs), metric="accuracy") == (
        "head, joint has the best accuracy on all rows, out of fold (0.8621; next head, soft: 0.8276)"
    )


def test_settings_compete_by_their_mean_over_seeds(result: RunResult) -> None:
    """One lucky seed does not decide: its selection rows are others than those of the other seeds."""
    lucky = [scored(result, "superpos", "soft", score, seed=seed) for seed, score in enumerate((0.95, 0.6))]
    steady = [scored(result, "head", "pooled", score, seed=seed) for seed, score in enumerate((0.8, 0.85))]
    ranked = candidates([*lucky, *steady])
    assert ranked[0].best is steady[1]
    assert "(0.8250, mean of 2 runs; next superpos, soft, lr 0.05: 0.7750)" in choice_told(ranked, metric="accuracy")


def test_a_head_of_few_rows_precedes_what_a_handful_of_rows_scored(result: RunResult) -> None:
    folds = FittedRows(num_rows=29, fewest=7, most=8, num_folds=5, num_scored=29)
    runs = [
        dataclasses.replace(scored(result, "superpos", "pooled", 1.0), num_selection=2),
        dataclasses.replace(scored(result, "head", "soft", 0.8276), num_selection=2, fitted_rows=folds),
    ]
    ranked = candidates(runs)
    assert ranked[0].best is runs[1]
    assert choice_told(ranked, metric="accuracy") == (
        "head, soft has the best accuracy on the selection rows, heads out of fold on all rows (0.8276; next superpos, "
        "pooled, lr 0.05: 1.0000 on 2 selection rows, too few to decide)"
    )
    assert candidates([dataclasses.replace(runs[0], num_selection=50), runs[1]])[0].best is not runs[1]
