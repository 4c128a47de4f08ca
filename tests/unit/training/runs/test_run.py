"""What a training run leaves behind: its folder, its adapter, its card and its figures."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.training import QUICK, SPEC, Finished, easy_rows, easy_task, lines_of, run, write_rows

from adapters import DEFAULT_TENANT, Ref, TaskSpec
from adapters.calibration import AbstainPromise, calibrated, read_promise
from adapters.exams import RIGHT, ROWS_SHA256
from adapters.files import CARD, from_files, read_folder
from adapters.profile import profile_of
from adapters.registry.opening import open_registry
from backbone import Backbone, load
from training.config.arguments import ARGUMENTS, TrainArguments
from training.data.examples import read_examples
from training.errors import InvalidArguments, InvalidData
from training.report.page import write_report
from training.runs.card import model_card
from training.runs.executor import Event, RowsEvent, train_runs
from training.runs.folder import RunFolder, next_free_folder
from training.runs.layout import METHOD, PREDICTIONS, RESULT
from training.runs.plan import RunPlan
from training.runs.provenance import train_command
from training.runs.run import prepare
from training.scoring.bootstrap import read_intervals
from training.scoring.calibration import (
    calibration_figures,
    calibration_line,
    expected_calibration_error,
    halves_figures,
)
from training.scoring.metrics import measure
from training.scoring.predictions import read_predictions
from training.task.scoring import MetricName
from training.task.task_file import DataSource, TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

OTHER_ROWS = list(enumerate(easy_rows(60, seed=3)))


@pytest.mark.slow
def test_the_run_folder_holds_an_adapter_that_passes_every_check(tiny: Backbone, finished: Finished) -> None:
    adapter = from_files(read_folder(finished.report.folder / "adapter"))
    assert adapter.digest == finished.report.adapter.digest
    assert np.array_equal(adapter.prompt, finished.report.result.prompt)
    assert adapter.spec == SPEC
    adapter.check_backbone(fingerprint=tiny.identity.fingerprint, width=tiny.width)


@pytest.mark.slow
def test_provenance_says_what_the_run_was_made_of(finished: Finished) -> None:
    provenance = finished.report.adapter.manifest.provenance
    result, task = finished.report.result, finished.task
    assert (provenance.method, provenance.seed) == ("superpos", 0)
    assert len(set(provenance.sampled_token_ids)) == 32
    unused = {"bottleneck", "rank", "sources", "distillation", "factor_lr"} | {
        name for name, argument in ARGUMENTS.items() if argument.learned
    }
    asked = {name: value for name, value in dataclasses.asdict(QUICK).items() if name not in unused}
    told = {"metric": "accuracy", "precision": "fp32", "stop": "finished"}
    assert provenance.hyperparameters == asked | told | {
        "best_epoch": result.best_epoch,
        "best_step": result.best_step,
    }
    assert task.data.validation is not None
    rows, answers = provenance.data[ROWS_SHA256], provenance.data[RIGHT]
    assert (len(str(rows)), str(answers).partition(":")[0]) == (64, str(provenance.data["report_rows"]))
    assert provenance.data == {
        ROWS_SHA256: rows,
        RIGHT: answers,
        "split": "honest",
        "train_file": "train.jsonl",
        "train_sha256": hashlib.sha256(Path(task.data.train).read_bytes()).hexdigest(),
        "validation_file": "validation.jsonl",
        "validation_sha256": hashlib.sha256(Path(task.data.validation).read_bytes()).hexdigest(),
        "division": "stratified",
        "report_overlap": 10,
        "train_rows": 108,
        "selection_rows": 12,
        "report_rows": 60,
    }
    assert provenance.metrics["report_accuracy"] == pytest.approx(finished.report.trained.accuracy, abs=1e-6)
    assert provenance.metrics["untrained_loss"] == pytest.approx(finished.report.untrained.loss, abs=1e-6)
    assert provenance.metrics["selection_loss"] == pytest.approx(result.best.loss, abs=1e-6)
    assert {"superpos", "torch", "transformers", "python"} <= provenance.software.keys()


def test_a_run_says_how_its_rows_were_read_and_divided_before_it_trains(tiny: Backbone, tmp_path: Path) -> None:
    rows = [f"{row['text']};{row['label']}" for row in easy_rows(60, seed=3)]
    (tmp_path / "train.csv").write_bytes("\n".join(["text;label", *rows, "", rows[0]]).encode("utf-16"))
    data = DataSource(train=str(tmp_path / "train.csv"), validation=str(tmp_path / "train.csv"))
    heard: list[Event] = []
    plan = RunPlan(
        task=TaskFile(name="topic", spec=SPEC, data=data),
        arguments=dataclasses.replace(QUICK, max_steps=1),
        folder=tmp_path / "run",
    )
    train_runs(tiny, [plan], on_event=lambda number, event: heard.append(event))
    assert isinstance(heard[0], RowsEvent)
    assert heard[0].notes[0] == "train.csv: read with separator ';', encoding utf-16-le, 1 blank line skipped"
    assert "report rows have the text of a training row" in heard[0].notes[-1]
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "with the text of a training row, which makes the scores optimistic" in card


def test_metrics_has_a_line_an_epoch_from_the_untrained_prompt_on(finished: Finished) -> None:
    lines = lines_of(finished.report.folder)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["step"] for line in lines] == [0, 9, 18, 27, 36]
    for line, event in zip(lines, finished.report.result.evaluations, strict=True):
        assert line["train_loss"] == event.train_loss
        assert line["accuracy"] == event.metrics.accuracy
        assert line["macro_f1"] == event.metrics.macro_f1
        assert line["loss"] == event.metrics.loss
        assert line["best"] == event.is_best
    assert lines[0]["train_loss"] is None
    assert lines[0]["best"] is True


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.slow
def test_the_epoch_kept_is_the_best_that_metrics_tells_of(tiny: Backbone, tmp_path: Path, metric: MetricName) -> None:
    # at so high a rate the last epoch is not the best
    arguments = dataclasses.replace(QUICK, lr=1.0)
    finished = run(tiny, easy_task(tmp_path, metrics=(metric,)), tmp_path / "run", arguments)
    lines = lines_of(tmp_path / "run")
    ranks = [(float(str(line[metric])), -float(str(line["loss"]))) for line in lines]
    best = finished.report.result.best_epoch
    assert best == ranks.index(max(ranks))
    assert best == max(int(str(line["epoch"])) for line in lines if line["best"])
    assert np.array_equal(finished.report.adapter.prompt, finished.report.result.evaluations[best].prompt)
    assert finished.report.adapter.manifest.provenance.hyperparameters["best_epoch"] == best
    assert finished.report.adapter.manifest.provenance.hyperparameters["metric"] == metric


def test_run_json_says_what_the_run_was_asked_to_do(finished: Finished) -> None:
    asked = json.loads((finished.report.folder / "run.json").read_text(encoding="utf-8"))
    assert asked["arguments"] == dataclasses.asdict(QUICK) | {"sources": []}
    assert TaskFile.model_validate(asked["task"]) == finished.task


def test_the_card_states_accuracy_and_split(tiny: Backbone, task: TaskFile, tmp_path: Path, finished: Finished) -> None:
    paper = run(tiny, task, tmp_path / "paper", dataclasses.replace(QUICK, epochs=1), split="paper").report
    for report, split, meaning in (
        (finished.report, "honest", "held-out training rows"),
        (paper, "paper", "optimistic"),
    ):
        card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
        assert f"| split | `{split}`: " in card
        assert meaning in card
        # the manifest's figures have six digits, and the card shows those: a figure rounded once may end otherwise
        metrics = report.adapter.manifest.provenance.metrics
        assert metrics["report_loss"] == pytest.approx(report.trained.loss, abs=1e-6)
        intervals = read_intervals(metrics, role="report")
        cells = [f"{metrics[f'report_{name}']:.3f} ({intervals[name]})" for name in ("accuracy", "macro_f1")]
        assert f"| **trained, report** | {' | '.join(cells)} | {metrics['report_loss']:.3f} |" in card
        assert f"| untrained, report | {report.untrained.accuracy:.3f} |" in card
        assert f"| majority-class baseline, report | {report.trained.constants['accuracy']:.3f} |" in card
        assert f"ECE {report.measured.calibrated['raw_ece']:.3f} → " in card
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
    with pytest.raises(InvalidArguments, match="already holds a run"):
        RunFolder(finished.report.folder)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InvalidArguments, match="cannot create the run folder"):
            RunFolder(path)


def test_a_run_that_could_not_be_exported_is_refused_before_it_trains(
    tiny_t5: Path, cache_dir: Path, task: TaskFile, tmp_path: Path
) -> None:
    long = f"{tiny_t5}{'/.' * 130}"
    plan = RunPlan(task=task, arguments=QUICK, folder=tmp_path / "run")
    with pytest.raises(InvalidArguments, match=r"BackboneRef id '/.*string should have at most 256 characters"):
        prepare(load(long, cache_dir=cache_dir), plan, RunFolder(plan.folder))
    assert not (tmp_path / "run").exists()


def test_the_largest_seed_is_one_that_an_adapter_can_have(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments, match="seed is 9007199254740992, expected 0 to 9007199254740991"):
        TrainArguments(seed=2**53)
    report = run(tiny, task, tmp_path / "run", dataclasses.replace(QUICK, max_steps=1, seed=2**53 - 1)).report
    assert from_files(read_folder(report.folder / "adapter")).manifest.provenance.seed == 2**53 - 1


def test_a_fresh_folder_is_the_first_that_is_free(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = next_free_folder(tmp_path / "runs", "topic")
        path.mkdir(parents=True)
        names.append(path.name)
    assert names == ["topic", "topic-2", "topic-3"]


def test_the_digest_outlives_the_folder_and_the_registry(tmp_path: Path, finished: Finished) -> None:
    registry = open_registry(tmp_path / "registry.sqlite")
    written = read_folder(finished.report.folder / "adapter")
    done = registry.publish(DEFAULT_TENANT, "topic", written, actor="test")
    assert done.digest == finished.report.adapter.digest
    resolved = open_registry(tmp_path / "registry.sqlite").resolve(DEFAULT_TENANT, Ref.parse("topic"))
    files = registry.get(resolved.digest)
    assert files == written
    assert from_files(files).digest == finished.report.adapter.digest


def test_the_run_folder_says_what_the_run_was_made_with(tiny: Backbone, finished: Finished) -> None:
    made = json.loads((finished.report.folder / "run.json").read_text(encoding="utf-8"))
    assert made["backbone"] == dataclasses.asdict(tiny.identity)
    answered = (ROWS_SHA256, RIGHT)  # known at the end
    described = finished.report.adapter.manifest.provenance.data
    assert made["data"] == {name: value for name, value in described.items() if name not in answered}
    assert made["environment"].keys() >= {"python", "torch", "transformers", "numpy", "platform", "cpu_count", "device"}
    assert made["environment"]["device"] == "cpu"
    assert (made["split"], made["limit"]) == ("honest", None)
    assert datetime.fromisoformat(made["started"]) <= datetime.now(UTC)


def test_the_report_rows_are_kept_with_what_was_answered(finished: Finished) -> None:
    kept = read_predictions(finished.report.folder / PREDICTIONS, SPEC.label_names)
    rows = read_examples(Path(str(finished.task.data.validation)), finished.task).examples
    assert kept.texts == tuple(row.text for row in rows)
    assert kept.fields == tuple(row.fields for row in rows)
    assert kept.labels.tolist() == [row.label for row in rows]
    assert measure(kept.log_probs, kept.labels) == finished.report.trained
    with pytest.raises(InvalidData, match="not the predictions of a run"):
        read_predictions(finished.report.folder / PREDICTIONS, ["other", "labels"])


def test_the_result_says_what_the_run_came_to(finished: Finished) -> None:
    result = json.loads((finished.report.folder / RESULT).read_text(encoding="utf-8"))
    assert result["adapter"] == finished.report.adapter.digest
    assert (result["stop"], result["best_epoch"]) == ("finished", finished.report.result.best_epoch)
    assert result["metrics"]["report_score"] == pytest.approx(finished.report.trained.score, abs=1e-6)
    assert result["calibration"]["temperature"] == finished.report.adapter.manifest.calibration.temperature


def test_the_command_names_what_differs_from_the_defaults(tiny: Backbone, finished: Finished) -> None:
    made = json.loads((finished.report.folder / "run.json").read_text(encoding="utf-8"))
    assert made["command"].startswith(
        "superpos train task.yaml --num-virtual-tokens 6 --num-sampled-tokens 32 --readout words --epochs 4"
    )
    assert "--lr 0.05" in made["command"]
    assert "--revision" not in made["command"]
    plain = train_command(TrainArguments(), split="honest", limit=None, backbone="embedded", revision="0.2.0")
    assert plain == "superpos train task.yaml --readout words --lr 0.01 --patience 0 --min-steps 0 --precision fp32"
    other = TrainArguments(method="simple", lr=0.3, seed=2)
    asked = train_command(other, split="paper", limit=100, backbone="a b", revision="0a" * 20)
    assert asked == (
        "superpos train task.yaml --method simple --readout words --lr 0.3 --seed 2 --patience 0 --min-steps 0 "
        f"--split paper --limit 100 --precision fp32 --backbone 'a b' --revision {'0a' * 20}"
    )


def test_the_methods_tensors_are_those_of_the_best_epoch(finished: Finished) -> None:
    state = load_file(finished.report.folder / METHOD)
    prompt = np.einsum("pm,pmh->ph", state["weights"], state["basis"])
    np.testing.assert_allclose(prompt, finished.report.adapter.prompt, atol=1e-5)


def test_words_are_the_nearest_of_the_vocabulary_and_the_heaviest_superposed(
    tiny: Backbone, finished: Finished
) -> None:
    words = json.loads((finished.report.folder / "words.json").read_text(encoding="utf-8"))
    weights = load_file(finished.report.folder / METHOD)["weights"]
    ids = finished.report.adapter.manifest.provenance.sampled_token_ids
    table = tiny.weights.embedding.numpy()
    for vector, nearest, superposed, row in zip(
        finished.report.adapter.prompt, words["nearest"], words["superposed"], weights, strict=True
    ):
        cosines = table[3:] @ vector / (np.linalg.norm(table[3:], axis=1) * np.linalg.norm(vector))
        assert nearest[0]["value"] == pytest.approx(cosines.max(), abs=1e-3)
        assert nearest[0]["piece"] == tiny.tokenizer.piece(3 + int(cosines.argmax()))
        heaviest = int(np.abs(row).argmax())
        assert superposed[0] == {
            "piece": tiny.tokenizer.piece(ids[heaviest]),
            "value": pytest.approx(row[heaviest], abs=1e-3),
        }


def test_the_steps_and_the_cost_of_a_run_add_up(finished: Finished) -> None:
    steps = [json.loads(line) for line in (finished.report.folder / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [event.step for event in finished.steps]
    assert [step["loss"] for step in steps] == [event.loss for event in finished.steps]
    cost = json.loads((finished.report.folder / "cost.json").read_text())
    assert (cost["steps"], cost["rows"]) == (len(finished.steps), sum(event.rows for event in finished.steps))
    assert 0 < cost["training_s"] + cost["evaluation_s"] <= finished.epochs[-1].elapsed_s + 0.001
    assert cost["rows_per_s"] * cost["training_s"] == pytest.approx(cost["rows"], rel=0.01)
    assert cost["tokens_per_s"] > 6 * cost["rows_per_s"]  # a prompt of 6 before each text
    assert cost["peak_memory_bytes"] > 50e6
    assert cost["device_memory_bytes"] is None


@pytest.mark.slow
def test_a_runs_adapter_is_calibrated_and_its_figures_are_of_the_served_probabilities(
    tiny: Backbone, tmp_path: Path
) -> None:
    task = easy_task(tmp_path)
    write_rows(tmp_path / "train.jsonl", easy_rows(700, seed=1))
    arguments = dataclasses.replace(QUICK, epochs=1, batch_size=64, abstain_precision=0.9)
    report = run(tiny, task, tmp_path / "run", arguments).report
    manifest = report.adapter.manifest
    assert manifest.calibration.temperature != 1
    assert report.measured.fit.num_rows == 70
    served = calibrated(report.measured.log_probs, manifest.calibration.temperature)
    assert manifest.validation == profile_of(served)
    metrics = manifest.provenance.metrics
    assert metrics["report_ece"] == pytest.approx(
        expected_calibration_error(served, report.rows.report.labels), abs=1e-6
    )
    threshold = manifest.calibration.abstain_threshold
    assert threshold is not None
    answered = served.max(axis=1) >= threshold
    assert metrics["report_coverage"] == pytest.approx(float(np.mean(answered)), abs=1e-6)
    assert read_promise(metrics) == AbstainPromise(0.9, 0.9, 70)
    write_report([report.folder], tmp_path / "report.html")
    for path in (report.folder / "adapter" / CARD, tmp_path / "report.html"):
        text = path.read_text(encoding="utf-8")
        assert calibration_line(manifest.calibration, metrics) in text
        assert "at least 90 % at confidence 90 % (fixed-sequence testing on 70 rows)" in text
    interval = report.measured.intervals["accuracy"]
    assert metrics["report_accuracy_low"] == pytest.approx(interval.low, abs=1e-6)
    assert interval.low <= report.trained.accuracy <= interval.high


@pytest.mark.slow
def test_a_temperature_that_the_report_rows_gave_is_measured_on_halves_of_them_and_said_to_be(
    tiny: Backbone, tmp_path: Path
) -> None:
    arguments = dataclasses.replace(QUICK, epochs=1)
    report = run(tiny, easy_task(tmp_path), tmp_path / "run", arguments, split="paper").report
    fit, labels = report.measured.fit, report.rows.report.labels
    assert fit.is_fitted
    assert report.measured.calibrated == halves_figures(fit, report.measured.log_probs, labels)
    assert report.measured.calibrated["ece"] != calibration_figures(fit, report.measured.log_probs, labels)["ece"]
    provenance = report.adapter.manifest.provenance
    assert provenance.metrics["report_ece"] == round(report.measured.calibrated["ece"], 6)
    assert provenance.data["calibration_measured"] == "halves"
    assert json.loads((report.folder / RESULT).read_text(encoding="utf-8"))["calibration_measured"] == "halves"
    write_report([report.folder], tmp_path / "report.html")
    for path in (report.folder / "adapter" / CARD, tmp_path / "report.html"):
        text = path.read_text(encoding="utf-8").replace("&#39;", "'")
        assert calibration_line(fit.calibration, provenance.metrics) in text
        assert "fitted on the report rows themselves, measured on two halves of them" in text


def test_texts_in_a_cards_table_end_no_cell(finished: Finished) -> None:
    """A label or a template may hold a bar or a line's end, which would be read as Markdown."""
    spec = TaskSpec(template="a | b:\n{text}", labels={"x|y": "sports", "z": "business"}, max_tokens=32)
    adapter = finished.report.adapter
    assert adapter is not None
    manifest = adapter.manifest.model_copy(update={"task": spec})
    card = model_card(finished.task.model_copy(update={"spec": spec}), dataclasses.replace(adapter, manifest=manifest))
    rows = [line for line in card.splitlines() if line.startswith(("| input |", "| labels |"))]
    assert rows == ["| input | `a \\| b: {text}` |", "| labels | x\\|y (“sports”), z (“business”) |"]


@pytest.mark.slow
def test_a_page_and_a_card_speak_of_overlapping_rows_where_there_are_some(
    tiny: Backbone, task: TaskFile, tmp_path: Path, finished: Finished
) -> None:
    held_out = [{"text": f"apart {number} {row['text']}", "label": row["label"]} for number, row in OTHER_ROWS]
    other = write_rows(tmp_path / "validation.jsonl", held_out)
    apart = task.model_copy(update={"data": task.data.model_copy(update={"validation": str(other)})})
    without = run(tiny, apart, tmp_path / "apart", dataclasses.replace(QUICK, epochs=1)).report
    for report, overlap in ((finished.report, "10 have the text of a training row"), (without, None)):
        write_report([report.folder], tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
        assert ("have the text of a training row" in page) == (overlap is not None)
        assert overlap is None or overlap in page
        assert ("text of a training row" in card) == (overlap is not None)
