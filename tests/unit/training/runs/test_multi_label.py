"""Runs of multi-label tasks: the adapter, its card and report, cross-validation, promotion, and refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.training import QUICK, TOPICS, run, topic_rows, topics_task, write_rows

from adapters.exams import RIGHT, paired_difference
from adapters.files import CARD, from_files, read_folder
from adapters.registry.rollouts import check_promotion, main_metric
from backbone import Backbone
from service.catalog.adapter_cache import load_adapter
from service.engine.model_runner import ModelRunner
from service.engine.types import Row
from service.inference.predictions import RowResult, predict
from training.config.arguments import TrainArguments
from training.config.presets import train_arguments
from training.data.examples import read_examples
from training.data.folds import Fold
from training.data.row_files import RowFiles
from training.errors import InvalidArguments
from training.report.page import write_report
from training.runs.cross_validation import out_of_fold
from training.runs.executor import train_runs
from training.runs.layout import PREDICTIONS, RESULT
from training.runs.plan import RunPlan
from training.runs.run_result import read_run_result
from training.scoring.adapter_evaluation import EvaluationOptions, evaluate_adapter
from training.scoring.decisions import are_same
from training.scoring.exam import num_trained_on, scored_on
from training.scoring.predictions import read_predictions

pytestmark = pytest.mark.usefixtures("one_thread")

ARGUMENTS: dict[str, TrainArguments] = {
    "soft": dataclasses.replace(QUICK, readout="soft", epochs=8),
    "pooled": dataclasses.replace(QUICK, readout="pooled", epochs=8),
    "head": train_arguments({"method": "head"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARGUMENTS)
def test_a_run_exports_an_adapter_that_a_server_answers_with_the_same_labels(
    tiny: Backbone, kind: str, tmp_path: Path
) -> None:
    done = run(tiny, topics_task(tmp_path, rows=240), tmp_path / "run", ARGUMENTS[kind])
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert done.report.adapter is not None
    assert adapter.digest == done.report.adapter.digest
    assert adapter.spec.is_multi_label
    thresholds = adapter.manifest.calibration.label_thresholds
    assert thresholds is not None
    assert adapter.manifest.provenance.data["fitted_label_thresholds"] == sum(x != 0.5 for x in thresholds) > 0
    assert done.report.trained.score >= 0.8
    assert done.report.trained.score > done.report.trained.constant_score
    rows, measured = done.report.rows.report, done.report.measured
    loaded = load_adapter(adapter, tiny)
    served = ModelRunner(tiny, prompt_table_bytes=1)([Row(loaded, ids, deadline=1e9) for ids in rows.token_ids])
    assert measured.decisions is not None
    for scores, decided, log_probs in zip(served, measured.decisions, measured.log_probs, strict=True):
        assert isinstance(scores, np.ndarray)
        assert np.abs(scores - log_probs).max() <= 1e-5
        prediction = predict(RowResult(scores, 3, {}, 0.0), loaded, top_k=3)
        assert prediction.labels is not None
        assert set(prediction.labels) == {TOPICS.label_names[i] for i in np.flatnonzero(decided)}
        assert set(prediction.scores) == set(TOPICS.label_names)


@pytest.fixture(scope="module")
def trained(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a task's rows and the finished run of a head."""
    folder = tmp_path_factory.mktemp("topics")
    run(tiny, topics_task(folder, rows=240), folder / "run", ARGUMENTS["head"])
    return folder


@pytest.mark.slow
def test_card_report_and_predictions_have_every_label(tiny: Backbone, trained: Path) -> None:
    folder = trained / "run"
    card = read_folder(folder / "adapter")[CARD].decode()
    assert "| label | rows | threshold | precision | recall | F1 | AP |" in card
    for name in TOPICS.label_names:
        assert f"\n| {name} | " in card
    assert "| | micro F1 | macro F1 | mAP | exact match |" in card
    assert "Each threshold maximises its label's F1 on the rows that it was fitted on" in card
    assert "A text has the labels whose probability reaches the label's threshold, or none" in card
    write_report([folder], folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "threshold</th>" in page
    assert "reliability" in page
    assert not (folder / "plots" / "confusion.svg").exists()
    rows = read_predictions(folder / PREDICTIONS, TOPICS.label_names)
    assert rows.is_multi_label
    figures = json.loads((folder / RESULT).read_text(encoding="utf-8"))["metrics"]
    assert figures["report_accuracy"] == pytest.approx(are_same(rows.predicted, rows.labels).mean(), abs=1e-6)
    result = read_run_result(folder)
    assert (
        set(result.trained.values) == {"micro_f1", "macro_f1", "map", "accuracy"} == set(result.intervals) - {"score"}
    )


@pytest.mark.slow
def test_evaluation_repeats_the_figures_of_the_card_whatever_the_order_of_the_labels(
    tiny: Backbone, trained: Path
) -> None:
    adapter = from_files(read_folder(trained / "run" / "adapter"))
    task = topics_task(trained, rows=240)
    read = read_examples(Path(str(task.data.validation)), task)
    found = evaluate_adapter(tiny, adapter, task, read, EvaluationOptions(precisions=["int8"], robustness=True))
    assert found.metrics.score == pytest.approx(adapter.manifest.provenance.metrics["report_score"], abs=1e-6)
    assert [each.name for each in found.labels] == list(TOPICS.label_names)
    assert found.precisions["int8"].label_agreement == adapter.manifest.provenance.metrics["int8_label_agreement"]
    turned = TOPICS.model_copy(update={"labels": TOPICS.labels[::-1]})
    other = task.model_copy(update={"spec": turned})
    scored = scored_on(tiny, adapter, other, read_examples(read.path, other))
    assert scored.manifest.provenance.data[RIGHT] == adapter.manifest.provenance.data[RIGHT]
    assert num_trained_on(adapter, RowFiles(task), read_examples(Path(str(task.data.train)), task)) == 240


@pytest.mark.slow
def test_thresholds_are_fitted_again_on_other_rows(tiny: Backbone, trained: Path) -> None:
    adapter = from_files(read_folder(trained / "run" / "adapter"))
    task = topics_task(trained, rows=240)
    read = read_examples(Path(str(task.data.validation)), task)
    found = evaluate_adapter(tiny, adapter, task, read, EvaluationOptions(calibrate="auto"))
    assert found.fit is not None
    assert found.fit.is_fitted
    assert found.adapter.manifest.calibration == found.fit.calibration
    assert found.adapter.manifest.calibration.label_thresholds != adapter.manifest.calibration.label_thresholds
    assert found.adapter.manifest.provenance.data["calibration_rows"] == 60


@pytest.mark.slow
def test_versions_are_compared_by_their_score_or_row_by_row_by_whole_rows(tiny: Backbone, trained: Path) -> None:
    good = from_files(read_folder(trained / "run" / "adapter"))
    vectors = good.readout
    assert vectors is not None
    worse = dataclasses.replace(good, readout=dataclasses.replace(vectors, label_bias=-vectors.label_bias - 3))
    task = topics_task(trained, rows=240)
    read = read_examples(Path(str(task.data.validation)), task)
    scored = [scored_on(tiny, adapter, task, read) for adapter in (good, worse)]
    assert main_metric(scored[0]) == "report_score"
    assert check_promotion(scored[0], scored[1]).metric == "report_score"
    paired = paired_difference(scored[1], scored[0])
    assert paired is not None
    assert paired.rows == 60
    assert paired.difference < 0
    found = check_promotion(scored[0], scored[1], metric="accuracy")
    assert found.paired is not None


@pytest.mark.slow
def test_folds_are_measured_together_under_their_own_thresholds(tiny: Backbone, tmp_path: Path) -> None:
    task = topics_task(tmp_path)
    plans = [
        RunPlan(
            task=task,
            arguments=ARGUMENTS["head"],
            folder=tmp_path / f"fold{number}",
            split="kfold",
            fold=Fold(number=number, of=3),
        )
        for number in (1, 2, 3)
    ]
    train_runs(tiny, plans)
    found = out_of_fold([read_run_result(plan.folder) for plan in plans], task)
    assert set(found.values) == {"micro_f1", "macro_f1", "map", "accuracy"}
    assert found.values["micro_f1"] > 0.6


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({}, "needs --readout soft, pooled or joint, not 'words': label words exclude others"),
        ({"readout": "words"}, "needs --readout soft, pooled or joint, not 'words'"),
        ({"method": "full"}, "which method 'full' cannot train"),
        ({"readout": "soft", "sampling": "balanced"}, "sampling 'balanced' needs one label per row; use --class-weig"),
        ({"readout": "soft", "abstain_precision": 0.9}, "abstain_precision is 0.9, which a multi-label task does not"),
    ],
)
def test_arguments_that_need_one_label_per_row_are_refused(
    explicit: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArguments, match=message):
        RunPlan(task=topics_task(tmp_path), arguments=train_arguments(explicit), folder=tmp_path / "run")


def test_other_rows_are_not_the_same_exam(tmp_path: Path) -> None:
    write_rows(tmp_path / "other.jsonl", topic_rows(10, seed=5))
    task = topics_task(tmp_path)
    ours = read_examples(Path(str(task.data.validation)), task).examples
    theirs = read_examples(tmp_path / "other.jsonl", task).examples
    assert ours[0].named(TOPICS.label_names) == sorted(TOPICS.label_names[i] for i in ours[0].labels)
    assert {example.label for example in theirs} <= {(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
