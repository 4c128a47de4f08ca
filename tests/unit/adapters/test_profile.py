"""The validation profile: what an adapter answered on held-out rows, in the adapter, checked like all of it."""

import json
from typing import Any

import numpy as np
import pytest
from support.adapters import an_adapter, manifest

from adapters import InvalidAdapter
from adapters.files import MANIFEST, from_files, to_files
from adapters.profile import ValidationProfile, confidence_bin, profile_of

PROFILE = {"label_counts": [3, 7], "confidence_counts": [0, 0, 0, 0, 0, 1, 1, 1, 1, 6], "rows": 10}


def test_an_adapter_without_a_profile_has_the_digest_that_it_had_before_there_were_profiles() -> None:
    adapter = an_adapter()
    assert json.loads(to_files(adapter)[MANIFEST])["validation"] is None
    files = to_files(adapter)
    older = json.loads(files[MANIFEST])
    del older["validation"]
    assert from_files(files | {MANIFEST: json.dumps(older).encode()}).digest == adapter.digest
    assert adapter.digest == "sha256:3fe8b0b0d0b7739dffe257eab736a383bf4a9f2b7033e02383b502b34719d4c2"


def test_a_profile_changes_the_digest_and_comes_back_from_the_files() -> None:
    adapter = an_adapter(validation=ValidationProfile.model_validate(PROFILE))
    assert adapter.digest != an_adapter().digest
    again = from_files(to_files(adapter))
    assert again.digest == adapter.digest
    assert again.manifest.validation == adapter.manifest.validation


@pytest.mark.parametrize(
    ("changes", "mention"),
    [
        ({"label_counts": [10]}, "1 counts, expected 2"),
        ({"label_counts": [3, 8]}, "add up to 11, expected 10"),
        ({"confidence_counts": [10]}, "1 bins, expected 10"),
        ({"confidence_counts": [0] * 10}, "add up to 0, expected 10"),
        ({"label_counts": [-3, 13]}, "greater than or equal to 0"),
        ({"label_counts": [3.0, 7]}, "valid integer"),
        ({"rows": 0, "label_counts": [0, 0], "confidence_counts": [0] * 10}, "greater than or equal to 1"),
        ({"rows": 2**53, "label_counts": [2**53, 0]}, "less than or equal to"),
        ({"surprise": 1}, "extra inputs"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(changes: dict[str, Any], mention: str) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        from_files(manifest("validation", value=PROFILE | changes)(to_files(an_adapter())))
    assert caught.value.check.startswith(MANIFEST)
    assert mention in caught.value.expected


@pytest.mark.parametrize(("confidence", "bin_"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.55, 5), (0.9999, 9), (1.0, 9)])
def test_a_confidence_has_its_bin(confidence: float, bin_: int) -> None:
    assert confidence_bin(confidence) == bin_


def test_a_profile_counts_labels_and_confidences() -> None:
    profile = profile_of(np.array([[0.95, 0.05], [0.3, 0.7], [0.45, 0.55]]))
    assert profile.label_counts == (1, 2)
    assert profile.confidence_counts == (0, 0, 0, 0, 0, 1, 0, 1, 0, 1)
    assert profile.rows == 3
