"""`superpos evaluate` beyond the figures: intervals, free generation, calibration, texts written otherwise."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.cli import Desk, superpos
from support.training import easy_rows, write_rows

from adapters.calibration import AbstainPromise, read_promise
from adapters.files import CARD, MANIFEST, from_files, read_folder, write_folder
from training.runs.card import recalibrated_card
from training.scoring.calibration import calibration_line

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_table_has_intervals_free_generation_and_texts_written_otherwise(desk: Desk) -> None:
    options = ("--protocol", "greedy", "--invalid", "zero_run", "--robustness", "--backbone", desk.tiny_t5)
    answer = superpos("evaluate", desk.run, desk.task, *options)
    assert answer.code == 0, answer.stderr
    assert re.search(r"sha256:\w+ . [\d.]+ \([\d.]+–[\d.]+\)", answer.text)
    for row in ("best constant answer", "free generation, invalid: zero_run", "letters swapped", "upper case"):
        assert row in answer.text
    assert "% no label" in answer.text
    assert re.search(r"white space: [\d.]+ % of the rows keep their label", answer.text)


def test_a_metric_is_of_its_label_by_name_whatever_order_the_task_file_has(desk: Desk) -> None:
    wrong = [{"text": "sports film the", "label": "business"}] * 9
    write_rows(desk.folder / "hard.jsonl", easy_rows(20, seed=3) + wrong)
    text = desk.task.read_text(encoding="utf-8").replace("validation.jsonl", "hard.jsonl")
    figures = []
    for name, labels in (("straight", "{sports: sports, business: business}"), ("turned", "{business: b, sports: s}")):
        task = text.replace("{sports: sports, business: business}", labels) + "metric: f1\n"
        for positive in ("sports", "business"):
            path = desk.write(f"{name}-{positive}.yaml", f"{task}positive: {positive}\n")
            answer = superpos("evaluate", desk.run, path, "--backbone", desk.tiny_t5)
            assert answer.code == 0, answer.stderr
            figures.append(re.findall(r"sha256:.*", answer.stdout))
    sports, business, *turned = figures
    assert sports != business
    assert turned == [sports, business]


def test_a_task_of_other_labels_or_of_another_kind_is_refused_with_both(desk: Desk) -> None:
    text = desk.task.read_text(encoding="utf-8")
    for labels, theirs in (
        ("labels: {sports: a, business: b, world: c}", "single_label labels sports, business, world"),
        ('labels: {"1": a, "2": b}\nkind: ordinal', "ordinal labels 1, 2"),
    ):
        path = desk.write("other.yaml", text.replace("labels: {sports: sports, business: business}", labels))
        refusal = superpos("evaluate", desk.run, path, "--backbone", desk.tiny_t5).refusal()
        assert refusal == f"task 'topic' has the {theirs}, expected the adapter's, single_label sports, business"


def test_an_adapter_is_calibrated_and_the_calibration_recorded(desk: Desk, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(desk.run / "adapter", tmp_path / "adapter"))
    options = ("--calibrate", "auto", "--abstain-precision", "0.9", "--backbone", desk.tiny_t5)
    tried = superpos("evaluate", folder, desk.task, *options)
    assert tried.code == 0, tried.stderr
    assert from_files(read_folder(folder)).digest == desk.adapter.digest
    assert superpos("evaluate", folder, desk.task, *options, "--record").code == 0
    adapter = from_files(read_folder(folder))
    assert adapter.manifest.calibration.temperature != 1
    assert adapter.manifest.calibration.abstain_threshold is not None
    metrics = adapter.manifest.provenance.metrics
    assert f"ECE {metrics['report_raw_ece']:.3f} → {metrics['report_ece']:.3f}" in tried.text
    assert {"report_brier", "report_coverage", "report_answered_accuracy"} <= metrics.keys()


def test_the_promise_of_a_threshold_is_stated_in_results_card_and_registry(
    desk: Desk, calibrated: Path, tmp_path: Path
) -> None:
    promise = read_promise(from_files(read_folder(calibrated)).manifest.provenance.metrics)
    num_rows = from_files(read_folder(calibrated)).manifest.provenance.data["calibration_rows"]
    assert promise == AbstainPromise(0.9, 0.9, num_rows)
    stated = f"a precision of at least 90 % at confidence 90 % (fixed-sequence testing on {num_rows} rows)"
    assert stated in (calibrated / CARD).read_text(encoding="utf-8")
    options = ("--calibrate", "auto", "--abstain-precision", "0.9", "--backbone", desk.tiny_t5)
    assert stated in superpos("evaluate", calibrated, desk.task, *options).text
    registry = tmp_path / "registry.sqlite"
    assert superpos("push", calibrated, "topic", "--to", registry).code == 0
    shown = superpos("show", "topic", "--from", registry)
    assert f"version 1: answers above its abstain threshold have {stated}" in shown.text


@pytest.fixture
def calibrated(desk: Desk, tmp_path: Path) -> Path:
    """An adapter's folder with a temperature and a threshold, and a card that somebody has written into."""
    folder = Path(shutil.copytree(desk.run / "adapter", tmp_path / "adapter"))
    options = ("--calibrate", "auto", "--abstain-precision", "0.9", "--record", "--backbone", desk.tiny_t5)
    assert superpos("evaluate", folder, desk.task, *options).code == 0
    card = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(card.replace("## Limits\n", "## Limits\n\nNot for poems.\n"), encoding="utf-8")
    return folder


def test_rows_that_are_too_few_leave_a_calibration_as_it_was_and_say_so(desk: Desk, calibrated: Path) -> None:
    write_rows(desk.folder / "few.jsonl", easy_rows(30, seed=4))
    task = desk.write("few.yaml", desk.task.read_text(encoding="utf-8").replace("validation.jsonl", "few.jsonl"))
    before, card = from_files(read_folder(calibrated)).manifest, (calibrated / CARD).read_text(encoding="utf-8")
    assert before.calibration.temperature != 1
    options = ("--calibrate", "always", "--record", "--backbone", desk.tiny_t5)
    answer = superpos("evaluate", calibrated, task, *options)
    assert answer.code == 0, answer.stderr
    assert (
        f"the temperature stays {before.calibration.temperature:g}: 30 held-out rows, expected at least 50"
        in answer.stderr
    )
    after = from_files(read_folder(calibrated)).manifest
    assert (after.calibration, after.provenance) == (before.calibration, before.provenance)
    assert (calibrated / CARD).read_text(encoding="utf-8") == card


def test_another_temperature_keeps_the_threshold_and_is_told_of_in_the_card_with_its_rows(
    desk: Desk, calibrated: Path
) -> None:
    before, card = from_files(read_folder(calibrated)).manifest, (calibrated / CARD).read_text(encoding="utf-8")
    options = ("--rows", "train", "--calibrate", "auto", "--record", "--backbone", desk.tiny_t5)
    answer = superpos("evaluate", calibrated, desk.task, *options)
    assert answer.code == 0, answer.stderr
    after, written = from_files(read_folder(calibrated)).manifest, (calibrated / CARD).read_text(encoding="utf-8")
    assert after.calibration.temperature != before.calibration.temperature
    assert after.calibration.abstain_threshold == before.calibration.abstain_threshold
    assert f"the abstain threshold stays {before.calibration.abstain_threshold:.3f}" in answer.stderr
    assert read_promise(before.provenance.metrics) is not None
    assert read_promise(after.provenance.metrics) is None, "nothing is proved of it at another temperature"
    metrics, data = after.provenance.metrics, after.provenance.data
    assert metrics["report_ece"] != before.provenance.metrics["report_ece"]
    assert (data["calibration_file"], data["calibration_rows"]) == ("train.jsonl", 120)
    assert data["calibration_sha256"] == data["train_sha256"]
    line = calibration_line(after.calibration, metrics)
    assert f"{line} (fitted on the 120 rows of train.jsonl, measured on two halves of them" in written
    parts = [re.split(r"(?m)^## ", text) for text in (card, written)]
    assert [part for part in parts[0] if part not in parts[1]] == [parts[0][2]]
    assert parts[0][2].startswith("Calibration\n")
    assert "Not for poems." in written


def test_figures_of_the_selection_rows_go_with_the_calibration_that_they_were_of(desk: Desk, calibrated: Path) -> None:
    files = read_folder(calibrated)
    manifest = json.loads(files[MANIFEST])
    manifest["provenance"]["metrics"] |= {"selection_coverage": 0.5, "selection_answered_accuracy": 0.9}
    write_folder(calibrated, files | {MANIFEST: json.dumps(manifest).encode()})
    options = ("--calibrate", "auto", "--record", "--backbone", desk.tiny_t5)
    assert superpos("evaluate", calibrated, desk.task, *options).code == 0
    metrics = from_files(read_folder(calibrated)).manifest.provenance.metrics
    assert not {"selection_coverage", "selection_answered_accuracy"} & metrics.keys()
    assert {"report_coverage", "report_answered_accuracy", "selection_accuracy"} <= metrics.keys()


def test_a_card_from_elsewhere_gets_the_calibration_at_its_end(desk: Desk, calibrated: Path) -> None:
    adapter = from_files(read_folder(calibrated))
    card = recalibrated_card("# Mine\n\nBy hand.\n", adapter)
    assert card.startswith("# Mine\n\nBy hand.\n\n## Calibration\n\nECE ")
    assert recalibrated_card(card, adapter) == card
    assert recalibrated_card("", adapter) == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--abstain-precision", "0.9"), "expected --calibrate auto"),
        (("--calibrate", "auto", "--abstain-precision", "1.5"), "between 0 and 1"),
        (("--calibrate", "auto", "--abstain-precision", "0.9999"), "no abstain threshold"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(desk: Desk, options: tuple[str, ...], expected: str) -> None:
    answer = superpos("evaluate", desk.run, desk.task, *options, "--backbone", desk.tiny_t5)
    assert expected in answer.refusal()


def test_evaluate_records_a_profile_into_an_adapter_that_has_none(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    files = read_folder(desk.run / "adapter")
    bare = json.loads(files[MANIFEST]) | {"validation": None}
    write_folder(folder, files | {MANIFEST: json.dumps(bare).encode()})
    answer = superpos("evaluate", folder, desk.task, "--record", "--backbone", desk.tiny_t5)
    assert answer.code == 0, answer.stderr
    adapter = from_files(read_folder(folder))
    assert adapter.digest == desk.adapter.digest
    assert answer.stdout.splitlines()[-1] == f"{folder} {adapter.digest}"
