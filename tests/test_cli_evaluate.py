"""`superpos evaluate` beyond the figures: intervals, free generation, calibration, texts written otherwise."""

import re
import shutil
from pathlib import Path

import pytest
from support_cli import Desk, superpos

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
