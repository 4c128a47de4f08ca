"""Runs of heads on few rows: honest figures in result, card and report, and baselines that follow the same rule."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.training import Finished, easy_rows, easy_task, run, topics_task, write_rows

from adapters.baselines import BASELINE_FOLDS
from adapters.files import CARD, read_folder
from backbone import Backbone
from training.baselines.fitting import Baselines
from training.config.presets import train_arguments
from training.data.examples import read_examples
from training.data.row_files import RowFiles
from training.report.page import write_report
from training.runs.executor import train_runs
from training.runs.layout import RESULT
from training.runs.plan import RunPlan
from training.runs.run_result import read_run_result
from training.scoring.calibration import MIN_ROWS
from training.scoring.exam import num_trained_on, row_key
from training.scoring.fitted_rows import FittedRows
from training.task.task_file import TaskFile

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
HEAD = train_arguments({"method": "head"})


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskFile:
    return easy_task(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def head(tiny: Backbone, task: TaskFile, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Of 108 training and 12 selection rows."""
    return run(tiny, task, tmp_path_factory.mktemp("head") / "run", HEAD, baselines=True)


def test_the_selection_score_and_the_calibration_are_of_out_of_fold_predictions(head: Finished) -> None:
    result, measured, rows = head.report.result, head.report.measured, head.report.rows
    assert result.out_of_fold is not None
    assert len(result.out_of_fold.rows) == 120
    labels = np.concatenate([rows.train.labels, rows.selection.labels])
    right = result.out_of_fold.log_probs.argmax(axis=1) == labels
    assert measured.selection.accuracy == pytest.approx(right.mean())
    assert measured.selection.loss == pytest.approx(result.best.loss, abs=1e-6)
    assert measured.fit.num_rows == 120 >= MIN_ROWS
    assert measured.fit.is_fitted
    assert read_run_result(head.report.folder).selection.accuracy == pytest.approx(right.mean(), abs=1e-6)


def test_card_result_and_report_say_what_was_fitted_and_how_it_was_chosen(head: Finished, tmp_path: Path) -> None:
    folder = head.report.folder
    rows = head.report.rows
    counts = np.bincount(np.concatenate([rows.train.labels, rows.selection.labels]))
    assert head.report.adapter is not None
    fitted = FittedRows.read(head.report.adapter.manifest.provenance.data)
    assert fitted == FittedRows.read(json.loads((folder / RESULT).read_text(encoding="utf-8")))
    assert fitted == FittedRows(num_rows=120, fewest=counts.min(), most=counts.max(), num_folds=5, num_scored=120), (
        "every row was fitted, and every row was predicted out of fold"
    )
    card = read_folder(folder / "adapter")[CARD].decode()
    told = f"120 fitted (108 training and 12 selection rows; {counts.min()} to {counts.max()} of each label)"
    assert f"| rows | {told}, 60 report" in card
    assert "| trained, out of fold |" in card
    assert "trained, selection" not in card
    assert "chosen by out-of-fold predictions of the training and selection rows in 5 folds" in card
    assert "best epoch" not in card
    assert "fitted on out-of-fold predictions of the training and selection rows, measured on the report rows" in card
    assert "fitted to the same training and selection rows; their strength of regularisation was\nchosen out of" in card
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert told in page
    assert "<dt>out of fold</dt>" in page
    assert "best step was chosen" not in page


def test_the_head_as_a_baseline_is_the_head_that_would_be_published(
    tiny: Backbone, task: TaskFile, head: Finished
) -> None:
    (baseline,) = Baselines(tiny).answers(head.report.rows.for_baselines, task, names=["head"])
    assert baseline.log_probs is not None
    assert np.allclose(baseline.log_probs, head.report.measured.log_probs, atol=1e-3)
    assert head.report.adapter is not None
    data = head.report.adapter.manifest.provenance.data
    assert data[BASELINE_FOLDS] == 5
    assert str(data["baseline_tfidf"]).startswith("C = ")


def test_the_thresholds_of_labels_are_fitted_out_of_fold_too(tiny: Backbone, tmp_path: Path) -> None:
    done = run(tiny, topics_task(tmp_path, rows=60), tmp_path / "run", HEAD, baselines=True)
    out_of_fold, fit = done.report.result.out_of_fold, done.report.measured.fit
    assert out_of_fold is not None
    assert fit.num_rows == len(out_of_fold.rows) > len(done.report.rows.selection)
    assert fit.thresholds is not None
    assert all(fit.thresholds.is_fitted), "the six selection rows alone would fit none"


@pytest.mark.parametrize("split", ["paper", "honest"])
def test_rows_that_are_reported_or_prove_a_promise_are_not_fitted(
    tiny: Backbone, task: TaskFile, tmp_path: Path, split: str
) -> None:
    arguments = HEAD if split == "paper" else dataclasses.replace(HEAD, abstain_precision=0.8)
    done = run(tiny, task, tmp_path / "run", arguments, split=split)
    assert done.report.result.out_of_fold is None
    assert done.report.measured.fit.num_rows == len(done.report.rows.selection)
    card = read_folder(done.report.folder / "adapter")[CARD].decode()
    assert "trained, selection" in card
    assert " fitted (" not in card


@pytest.mark.parametrize("drawn", [{"limit": 40}, {"shots": 5}])
def test_the_rows_of_a_smaller_run_are_known_again(
    tiny: Backbone, task: TaskFile, tmp_path: Path, drawn: dict[str, int]
) -> None:
    plan = RunPlan(task=task, arguments=HEAD, folder=tmp_path / "run", baselines=False, **drawn)
    (report,) = train_runs(tiny, [plan])
    assert report.adapter is not None
    names, file = task.spec.label_names, read_examples(Path(str(task.data.train)), task)
    seen = {row_key(row, names) for row in (*report.rows.train_examples, *report.rows.selection_examples)}
    expected = sum(row_key(row, names) in seen for row in file.examples)
    assert num_trained_on(report.adapter, RowFiles(task), file) == expected < len(file.examples)


def test_groups_stay_whole_in_the_folds_of_a_run(tiny: Backbone, tmp_path: Path) -> None:
    rows = [{**row, "of": f"thread {n // 4}"} for n, row in enumerate(easy_rows(80, seed=1))]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    task = easy_task(tmp_path)
    grouped = task.model_copy(update={"data": task.data.model_copy(update={"train": str(path), "group": "of"})})
    grouped = grouped.model_copy(
        update={
            "data": grouped.data.model_copy(update={"validation": str(write_rows(tmp_path / "v.jsonl", rows[:20]))})
        }
    )
    done = run(tiny, grouped, tmp_path / "run", HEAD)
    folds = done.report.rows.folds
    assert folds is not None
    places: dict[str | None, set[int]] = {}
    examples = (*done.report.rows.train_examples, *done.report.rows.selection_examples)
    for example, fold in zip(examples, folds.tolist(), strict=True):
        places.setdefault(example.group, set()).add(fold)
    assert all(len(found) == 1 for found in places.values())
    assert done.report.result.out_of_fold is not None
