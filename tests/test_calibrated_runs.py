"""A run with rows enough to be calibrated: what is written is what is served, and its figures are of that."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support_training import QUICK, easy_rows, easy_task, run, write_rows

from adapters.calibration import calibrated
from adapters.files import CARD
from adapters.profile import profile_of
from backbone import Backbone
from training.scoring.calibration import calibration_line, expected_calibration_error

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
    assert report.appraisal.fit.num_rows == 70
    served = calibrated(report.answered, manifest.calibration.temperature)
    assert manifest.validation == profile_of(served)
    metrics = manifest.provenance.metrics
    assert metrics["report_ece"] == pytest.approx(expected_calibration_error(served, report.rows.labels), abs=1e-6)
    threshold = manifest.calibration.abstain_threshold
    assert threshold is not None
    answered = served.max(axis=1) >= threshold
    assert metrics["report_coverage"] == pytest.approx(float(np.mean(answered)), abs=1e-6)
    card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
    assert calibration_line(manifest.calibration, metrics) in card
    interval = report.appraisal.intervals["accuracy"]
    assert metrics["report_accuracy_low"] == pytest.approx(interval.low, abs=1e-6)
    assert interval.low <= report.trained.accuracy <= interval.high
