"""The validation profile that training records."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from support.training import Finished

from adapters.calibration import calibrated
from adapters.profile import profile_of
from backbone import Backbone
from training.scoring.adapter_answers import answers, read_adapter_rows, with_profile
from training.scoring.evaluation import tokenize_examples


def test_training_records_the_profile_of_the_report_rows_as_they_are_served(tiny: Backbone, finished: Finished) -> None:
    profile = finished.report.adapter.manifest.validation
    assert profile is not None
    assert profile.rows == 60
    assert finished.task.data.validation is not None
    adapter = finished.report.adapter
    examples = read_adapter_rows(tiny, adapter, finished.task, Path(finished.task.data.validation)).examples
    rows = tokenize_examples(tiny, adapter.spec, examples)
    assert profile == profile_of(calibrated(answers(tiny, adapter, rows), 1.0))


def test_a_profile_is_of_calibrated_confidences(tiny: Backbone, finished: Finished) -> None:
    log_probs = np.log(np.array([[0.9, 0.1], [0.6, 0.4]], dtype=np.float32))
    adapter = finished.report.adapter
    calibration = adapter.manifest.calibration.model_copy(update={"temperature": 100.0})
    blunt = replace(adapter, manifest=adapter.manifest.model_copy(update={"calibration": calibration}))
    profile = with_profile(blunt, log_probs).manifest.validation
    assert profile is not None
    assert profile.confidence_counts[5] == 2
