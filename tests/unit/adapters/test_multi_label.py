"""Multi-label tasks as adapters: their kind, their thresholds, and what is refused."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.adapters import BACKBONE, TASK, WIDTH, a_readout, an_adapter, edited, manifest

from adapters import InvalidAdapter, Manifest, PromptAdapter, Provenance
from adapters.adapter import no_prompt
from adapters.calibration import Calibration, calibrated, label_logits, reached
from adapters.files import MANIFEST, from_files, to_files

SPEC = TASK.model_copy(update={"kind": "multi_label"})


def the_manifest(**changes: Any) -> Manifest:
    values = {"task": SPEC, "backbone": BACKBONE, "provenance": Provenance(method="head"), **changes}
    return Manifest(**{"schema_version": 2, "readout": "pooled", **values})


def an_adapter_with(*thresholds: float) -> PromptAdapter:
    calibration = Calibration(temperature=1.5, label_thresholds=thresholds or None)
    return PromptAdapter(no_prompt(WIDTH), the_manifest(calibration=calibration), a_readout())


def test_thresholds_are_part_of_the_files_and_of_the_digest() -> None:
    adapter = an_adapter_with(0.25, 0.75)
    assert from_files(to_files(adapter)).digest == adapter.digest
    assert from_files(to_files(adapter)).manifest.calibration.label_thresholds == (0.25, 0.75)
    assert adapter.digest != an_adapter_with(0.25, 0.5).digest


def test_files_without_thresholds_do_not_name_them_since_older_servers_refuse_unknown_keys() -> None:
    for adapter in (an_adapter(), an_adapter_with()):
        assert set(json.loads(to_files(adapter)[MANIFEST])["calibration"]) == {"temperature", "abstain_threshold"}
        assert from_files(to_files(adapter)).digest == adapter.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 1, "readout": "words"}, "with readout 'words', expected 'soft', 'pooled' or 'joint'"),
        ({"calibration": Calibration(abstain_threshold=0.5)}, "abstain_threshold with kind 'multi_label', expected"),
        ({"calibration": Calibration(label_thresholds=(0.5,))}, "has 1 values, expected 2, one per label"),
        ({"task": TASK, "calibration": Calibration(label_thresholds=(0.5, 0.5))}, "with kind 'single_label', expec"),
    ],
)
def test_what_a_multi_label_adapter_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        the_manifest(**changes)


def test_an_upload_with_invalid_thresholds_or_of_an_unknown_kind_is_refused_with_the_place_and_the_value() -> None:
    files = to_files(an_adapter_with(0.25, 0.75))
    for change, words in (
        (manifest("calibration", "label_thresholds", value=[0.5, 1.5]), ("label_thresholds.1", "1.5")),
        (manifest("calibration", "label_thresholds", value=[0.5] * 3), ("3 values, expected 2",)),
        (manifest("task", "kind", value="several_labels"), ("task.kind", "several_labels", "'multi_label'")),
        (manifest("readout", value="words"), ("schema_version", "expected 1")),
    ):
        with pytest.raises(InvalidAdapter) as caught:
            from_files(change(files))
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_infinite_thresholds_are_not_json_that_is_read() -> None:
    files = to_files(an_adapter_with(0.25, 0.75))
    broken = edited(files, MANIFEST, lambda value: value["calibration"].update(label_thresholds=[0.5, float("nan")]))
    with pytest.raises(InvalidAdapter, match=r"superpos\.json"):
        from_files(broken)


def test_calibrated_probabilities_of_labels_are_sigmoids_of_their_scaled_logits() -> None:
    logits = np.array([[-90.0, -3.0, 0.0, 2.0, 40.0, 90.0]])
    log_probs = -np.logaddexp(0, -logits).astype(np.float32)
    assert np.allclose(label_logits(log_probs), np.clip(logits, -80, 80), atol=1e-4)
    assert np.allclose(calibrated(log_probs, 1.0, multi_label=True), 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert np.allclose(calibrated(log_probs, 2.0, multi_label=True), 1 / (1 + np.exp(-logits / 2)), atol=1e-6)


def test_a_label_is_given_from_its_threshold_on_and_at_a_half_where_there_is_none() -> None:
    probabilities = np.array([[0.25, 0.6], [0.24, 0.8]])
    assert reached(probabilities, Calibration(label_thresholds=(0.25, 0.75)).thresholds(2)).tolist() == [
        [True, False],
        [False, True],
    ]
    assert Calibration().thresholds(2).tolist() == [0.5, 0.5]


def test_the_kind_is_part_of_the_digest() -> None:
    adapter = an_adapter_with()
    single = dataclasses.replace(adapter, manifest=the_manifest(task=TASK, calibration=adapter.manifest.calibration))
    assert single.digest != adapter.digest
