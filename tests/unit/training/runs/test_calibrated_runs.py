"""A run with rows enough to be calibrated: what is written is what is served, and its figures are of that."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.training import QUICK, easy_rows, easy_task, run, write_rows

from adapters.calibration import calibrated
from adapters.files import CARD
from adapters.profile import profile_of
from backbone import Backbone
from training.report.writing import write_report
from training.runs.layout import RESULT
from training.scoring.calibration import (
    calibration_figures,
    calibration_line,
    expected_calibration_error,
    halves_figures,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
    card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
    assert calibration_line(manifest.calibration, metrics) in card
    interval = report.measured.intervals["accuracy"]
    assert metrics["report_accuracy_low"] == pytest.approx(interval.low, abs=1e-6)
    assert interval.low <= report.trained.accuracy <= interval.high


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
