"""What a training run leaves behind: its folder, its adapter, its card and its figures."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from support_training import QUICK, SPEC, Finished, easy_rows, easy_task, lines_of, run, write_rows

from adapters import DEFAULT_TENANT, Ref, SqliteRegistry
from adapters.files import CARD, from_files, read_folder
from backbone import Backbone
from training.errors import InvalidArguments
from training.run_folder import RunFolder, fresh_folder
from training.task_file import DataSource, Metric, TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_run_folder_holds_an_adapter_that_passes_every_check(tiny: Backbone, finished: Finished) -> None:
    adapter = from_files(read_folder(finished.report.folder / "adapter"))
    assert adapter.digest == finished.report.adapter.digest
    assert np.array_equal(adapter.prompt, finished.report.result.prompt)
    assert adapter.spec == SPEC
    adapter.check_backbone(fingerprint=tiny.identity.fingerprint, width=tiny.width)


def test_provenance_says_what_the_run_was_made_of(finished: Finished) -> None:
    provenance = finished.report.adapter.manifest.provenance
    result, task = finished.report.result, finished.task
    assert (provenance.method, provenance.seed) == ("superpos", 0)
    assert len(set(provenance.sampled_token_ids)) == 32
    asked = dataclasses.asdict(QUICK)
    assert provenance.hyperparameters == asked | {"best_epoch": result.best_epoch, "stop": "finished"}
    assert task.data.validation is not None
    assert provenance.data == {
        "split": "honest",
        "train_file": "train.jsonl",
        "train_sha256": hashlib.sha256(Path(task.data.train).read_bytes()).hexdigest(),
        "validation_file": "validation.jsonl",
        "validation_sha256": hashlib.sha256(Path(task.data.validation).read_bytes()).hexdigest(),
        "train_rows": 108,
        "selection_rows": 12,
        "report_rows": 60,
    }
    assert provenance.metrics["report_accuracy"] == pytest.approx(finished.report.trained.accuracy, abs=1e-6)
    assert provenance.metrics["untrained_loss"] == pytest.approx(finished.report.untrained.loss, abs=1e-6)
    assert provenance.metrics["selection_loss"] == pytest.approx(result.best.loss, abs=1e-6)
    assert {"superpos", "torch", "transformers", "python"} <= provenance.software.keys()


def test_metrics_has_a_line_an_epoch_from_the_untrained_prompt_on(finished: Finished) -> None:
    lines = lines_of(finished.report.folder)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    for line, event in zip(lines, finished.report.result.epochs, strict=True):
        assert line["train_loss"] == event.train_loss
        assert line["accuracy"] == event.metrics.accuracy
        assert line["macro_f1"] == event.metrics.macro_f1
        assert line["loss"] == event.metrics.loss
        assert line["best"] == event.is_best
    assert lines[0]["train_loss"] is None
    assert lines[0]["best"] is True


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_epoch_kept_is_the_best_that_metrics_tells_of(tiny: Backbone, tmp_path: Path, metric: Metric) -> None:
    # at so high a rate the last epoch is not the best
    arguments = dataclasses.replace(QUICK, lr=1.0)
    finished = run(tiny, easy_task(tmp_path, metric=metric), tmp_path / "run", arguments)
    lines = lines_of(tmp_path / "run")
    ranks = [(float(str(line[metric])), -float(str(line["loss"]))) for line in lines]
    best = finished.report.result.best_epoch
    assert best == ranks.index(max(ranks))
    assert best == max(int(str(line["epoch"])) for line in lines if line["best"])
    assert np.array_equal(finished.report.adapter.prompt, finished.report.result.epochs[best].prompt)
    assert finished.report.adapter.manifest.provenance.hyperparameters["best_epoch"] == best
    assert finished.report.adapter.manifest.provenance.hyperparameters["metric"] == metric


def test_run_json_says_what_the_run_was_asked_to_do(finished: Finished) -> None:
    asked = json.loads((finished.report.folder / "run.json").read_text(encoding="utf-8"))
    assert asked["arguments"] == dataclasses.asdict(QUICK)
    assert TaskFile.model_validate(asked["task"]) == finished.task


def test_the_card_states_accuracy_and_split(tiny: Backbone, task: TaskFile, tmp_path: Path, finished: Finished) -> None:
    paper = run(tiny, task, tmp_path / "paper", dataclasses.replace(QUICK, epochs=1), split="paper").report
    for report, split, meaning in (
        (finished.report, "honest", "held-out training rows"),
        (paper, "paper", "flatter"),
    ):
        card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
        assert f"| split | `{split}`: " in card
        assert meaning in card
        figures = f"{report.trained.accuracy:.3f} | {report.trained.macro_f1:.3f} | {report.trained.loss:.3f}"
        assert f"| trained, report | {figures} |" in card
        assert f"| untrained, report | {report.untrained.accuracy:.3f} |" in card
        assert f"gives accuracy {report.trained.constant_accuracy:.3f}" in card
        assert "text: {text}" in card


def test_a_card_warns_of_a_collapse(tiny: Backbone, tmp_path: Path) -> None:
    # one report row can have but one answer
    data = DataSource(
        train=str(write_rows(tmp_path / "train.jsonl", easy_rows(20, seed=1))),
        validation=str(write_rows(tmp_path / "one.jsonl", easy_rows(1, seed=2))),
    )
    task = TaskFile(name="topic", spec=SPEC, data=data)
    report = run(tiny, task, tmp_path / "run", dataclasses.replace(QUICK, epochs=1)).report
    assert "collapsed" in (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
    assert report.adapter.manifest.provenance.metrics["collapsed"] == 1.0


def test_a_folder_that_holds_a_run_is_refused(finished: Finished) -> None:
    with pytest.raises(InvalidArguments, match="holds a run already"):
        RunFolder(finished.report.folder)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InvalidArguments, match="cannot make the run folder"):
            RunFolder(path)


def test_a_fresh_folder_is_the_first_that_is_free(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = fresh_folder(tmp_path / "runs", "topic")
        path.mkdir(parents=True)
        names.append(path.name)
    assert names == ["topic", "topic-2", "topic-3"]


def test_the_digest_outlives_the_folder_and_the_registry(tmp_path: Path, finished: Finished) -> None:
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    written = read_folder(finished.report.folder / "adapter")
    done = registry.publish(DEFAULT_TENANT, "topic", written, actor="test")
    assert done.digest == finished.report.adapter.digest
    resolved = SqliteRegistry(tmp_path / "registry.sqlite").resolve(DEFAULT_TENANT, Ref.parse("topic"))
    files = registry.get(resolved.digest)
    assert files == written
    assert from_files(files).digest == finished.report.adapter.digest
