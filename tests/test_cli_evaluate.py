"""`superpos evaluate` beyond the figures: intervals, free generation, calibration, texts written otherwise."""

import re
import shutil
from pathlib import Path

import pytest
from support_cli import Desk, superpos
from support_training import easy_rows, write_rows

from adapters.files import from_files, read_folder

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
    options = ("--calibrate", "--abstain-precision", "0.9", "--backbone", desk.tiny_t5)
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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--abstain-precision", "0.9"), "needs --calibrate"),
        (("--calibrate", "--abstain-precision", "1.5"), "between 0 and 1"),
        (("--calibrate", "--abstain-precision", "0.9999"), "no abstain threshold"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(desk: Desk, options: tuple[str, ...], expected: str) -> None:
    answer = superpos("evaluate", desk.run, desk.task, *options, "--backbone", desk.tiny_t5)
    assert expected in answer.refusal()
