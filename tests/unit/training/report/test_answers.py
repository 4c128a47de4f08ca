"""What a report says of answers, against scikit-learn; and what it makes of rows that nobody can trust."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as reference_matrix
from sklearn.metrics import precision_recall_fscore_support
from support.report import EVIL, relabelled, reseeded
from support.training import Finished

from training.report.answers import (
    confusion_matrix,
    label_scores,
    most_confused,
    reliability,
    worst_mistakes,
)
from training.report.comparison import best_run, named_runs
from training.report.page import task_yaml, write_report
from training.report.reading import find_runs, read_run
from training.report.run_view import warnings
from training.scoring.predictions import Predictions
from training.task.task_file import load_task_file

NAMES = ("a", "b", "c", "never")


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet([1, 1, 1, 0.01], size=200)
    return Predictions(
        texts=tuple(f"text: {i}" for i in range(200)),
        fields=tuple({"text": str(i)} for i in range(200)),
        groups=None,
        label_names=NAMES,
        labels=draw.integers(3, size=200),
        log_probs=np.log(probabilities + 1e-9).astype(np.float32),
    )


def test_the_labels_scores_are_scikit_learns(predictions: Predictions) -> None:
    matrix = confusion_matrix(predictions)
    assert matrix.tolist() == reference_matrix(predictions.labels, predictions.predicted, labels=range(4)).tolist()
    expected = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=range(4), zero_division=0
    )
    found = [(label.precision, label.recall, label.f1, label.support) for label in label_scores(matrix, NAMES)]
    assert np.array(found) == pytest.approx(np.array(expected).T)


def test_the_most_confused_pairs_are_the_largest_cells_off_the_diagonal() -> None:
    matrix = np.array([[9, 4, 0], [1, 9, 0], [0, 2, 2]])
    pairs = most_confused(matrix, ["a", "b", "c"], count=2)
    assert [(pair.right, pair.given, pair.rows) for pair in pairs] == [("a", "b", 4), ("c", "b", 2)]
    assert [pair.share for pair in pairs] == pytest.approx([4 / 13, 0.5])
    assert most_confused(np.diag([3, 3, 3]), ["a", "b", "c"], count=2) == []


def test_reliability_sets_confidence_against_accuracy_bin_by_bin() -> None:
    probabilities = np.array([[0.95, 0.05], [0.94, 0.06], [0.4, 0.6], [1.0, 0.0]])
    line = reliability(probabilities, np.array([0, 1, 1, 0]))
    assert line.counts.tolist() == [1, 3]
    assert line.confidence.tolist() == pytest.approx([0.6, (0.95 + 0.94 + 1.0) / 3])
    assert line.accuracy.tolist() == pytest.approx([1, 2 / 3])
    assert line.error == pytest.approx(np.average(abs(line.confidence - line.accuracy), weights=line.counts))


def test_the_worst_mistakes_are_the_wrong_rows_of_the_highest_loss(predictions: Predictions) -> None:
    probabilities = np.exp(predictions.log_probs.astype(np.float64))
    mistakes = worst_mistakes(predictions, probabilities, count=5)
    wrong = predictions.predicted != predictions.labels
    right_ones = predictions.log_probs[np.arange(200), predictions.labels][wrong]
    assert [mistake.loss for mistake in mistakes] == pytest.approx(sorted(-right_ones, reverse=True)[:5])
    for mistake in mistakes:
        assert mistake.right == NAMES[predictions.labels[mistake.index]] != mistake.given
        assert mistake.given_probability > mistake.right_probability
        assert mistake.fields == (("text", str(mistake.index)),)


@pytest.mark.slow
def test_what_a_row_or_a_label_says_stays_text(finished: Finished, tmp_path: Path) -> None:
    run = relabelled(finished.report.folder, tmp_path / "run", ["<b>no</b>", "$yes_{$"], rows=80)
    write_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>no" not in page
    assert "<img" not in page
    assert EVIL.split("&")[0].replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;").strip() in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "$yes_{$" in page


def test_runs_are_named_by_what_differs_and_the_selection_rows_choose_the_best(
    finished: Finished, tmp_path: Path
) -> None:
    run = finished.report.folder
    folders = [reseeded(run, tmp_path / f"{lr}-{seed}", seed=seed, lr=lr) for lr in (0.1, 0.02) for seed in (0, 1)]
    runs = named_runs([read_run(folder) for folder in find_runs([tmp_path])])
    assert [run.name for run in runs] == ["lr 0.02, seed 0", "lr 0.02, seed 1", "lr 0.1, seed 0", "lr 0.1, seed 1"]
    assert [run.group for run in runs] == ["lr 0.02", "lr 0.02", "lr 0.1", "lr 0.1"]
    assert best_run(runs[1:]).name == "lr 0.1, seed 0"
    assert len(find_runs([folders[0], folders[0], folders[1]])) == 2


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"limit": 100}, ("limit 100", "limit none")),
        ({"split": "paper"}, ("paper", "honest")),
        ({"precision": "bf16"}, ("bf16", "fp32")),
        ({"backbone": {"id": "t5-base", "fingerprint": "sha256:0123456789"}}, ("t5-base 01234567", "")),
        ({"data": {"train_sha256": "other", "validation_sha256": "other"}}, ("rows ", "rows ")),
    ],
)
def test_runs_that_differ_in_more_than_seed_or_fold_are_told_apart_and_never_averaged(
    finished: Finished, changes: dict[str, object], parts: tuple[str, str]
) -> None:
    record = read_run(finished.report.folder)
    runs = named_runs([replace(record, run={**record.run, **changes}), record])
    assert runs[0].group != runs[1].group
    for run, part in zip(runs, parts, strict=True):
        assert part in run.group
        assert part in run.name
        assert "(" not in run.name, "told apart by its folder alone"


def test_rows_that_were_read_otherwise_are_told_apart(finished: Finished) -> None:
    record = read_run(finished.report.folder)
    data = record.task.data.model_copy(update={"label_values": {"sports": "business", "business": "sports"}})
    first, second = named_runs([record, replace(record, task=record.task.model_copy(update={"data": data}))])
    assert first.group != second.group


def test_runs_of_two_tasks_differ_in_their_rows_as_a_matter_of_course(finished: Finished) -> None:
    record = read_run(finished.report.folder)
    other = replace(
        record,
        task=record.task.model_copy(update={"name": "other"}),
        run={**record.run, "data": {"train_sha256": "other"}},
    )
    assert [run.group for run in named_runs([record, other])] == ["topic", "other"]


def test_the_same_run_twice_has_two_names(finished: Finished) -> None:
    record = read_run(finished.report.folder)
    assert len({run.name for run in named_runs([record, record])}) == 2


def test_the_task_of_a_report_is_a_task_file(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(task_yaml(finished.task), encoding="utf-8")
    assert load_task_file(tmp_path / "task.yaml", variables={}) == finished.task


def test_a_reader_is_warned_before_the_score(finished: Finished, tmp_path: Path) -> None:
    record = read_run(finished.report.folder)
    assert warnings(record) == []
    record.result["metrics"]["report_score"] = record.metrics["report_constant_score"]
    record.result["stop"] = "diverged"
    assert [warning.split()[1] for warning in warnings(record)] == ["score", "loss"]
    record.result["metrics"]["collapsed"] = 1.0
    assert "collapsed" in warnings(record)[0]
