"""The adapter as a value: its digest, its bounds and the backbone that it is for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.adapters import BACKBONE, FINGERPRINT, TASK, WIDTH, a_prompt, an_adapter, with_value

from adapters import Calibration, InvalidAdapter, PromptAdapter, Provenance, TaskSpec
from adapters.adapter import MAX_ROW_NORM, MAX_VIRTUAL_TOKENS


def test_the_digest_of_a_known_adapter_never_changes() -> None:
    assert an_adapter().digest == "sha256:3fe8b0b0d0b7739dffe257eab736a383bf4a9f2b7033e02383b502b34719d4c2"


def test_the_prompt_cannot_be_written() -> None:
    adapter = an_adapter()
    with pytest.raises(ValueError, match="read-only"):
        adapter.prompt[0, 0] = 1


def test_the_array_that_an_adapter_was_made_from_is_no_longer_its_prompt() -> None:
    array = a_prompt()
    adapter = an_adapter(array)
    array[0, 0] = 99
    assert adapter.prompt[0, 0] == a_prompt()[0, 0]


def test_a_prompt_laid_out_otherwise_in_memory_is_the_same_adapter() -> None:
    assert an_adapter(np.asfortranarray(a_prompt())).digest == an_adapter().digest
    assert an_adapter(np.repeat(a_prompt(), 2, axis=0)[::2]).digest == an_adapter().digest


def test_an_adapter_knows_its_sizes_and_its_task() -> None:
    adapter = an_adapter(a_prompt(20))
    assert (adapter.num_virtual_tokens, adapter.width) == (20, WIDTH)
    assert adapter.spec == TASK


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(an_adapter(np.nextafter(a_prompt(), np.float32(np.inf), dtype=np.float32)), id="prompt by an ulp"),
        pytest.param(an_adapter(with_value(0.5)), id="one value of the prompt"),
        pytest.param(an_adapter(a_prompt()[::-1].copy()), id="prompt's order"),
        pytest.param(an_adapter(a_prompt().reshape(WIDTH, 10)), id="prompt's shape"),
        pytest.param(an_adapter(a_prompt(9)), id="prompt's length"),
        pytest.param(
            an_adapter(task=TASK.model_copy(update={"labels": TASK.labels[::-1]})),
            id="label order",
        ),
        pytest.param(
            an_adapter(task=TaskSpec(template=TASK.template, labels={"negative": "bad", "positive": "nice"})),
            id="label words",
        ),
        pytest.param(
            an_adapter(task=TaskSpec(template=TASK.template, labels={"no": "bad", "positive": "good"})),
            id="label name",
        ),
        pytest.param(an_adapter(task=TASK.model_copy(update={"template": "s: {sentence}"})), id="template"),
        pytest.param(an_adapter(task=TASK.model_copy(update={"max_tokens": 255})), id="max tokens"),
        pytest.param(an_adapter(task=TASK.model_copy(update={"truncation_side": "start"})), id="truncation side"),
        pytest.param(an_adapter(calibration=Calibration(temperature=1.5)), id="temperature"),
        pytest.param(an_adapter(calibration=Calibration(abstain_threshold=0.5)), id="abstain threshold"),
        pytest.param(an_adapter(calibration=Calibration(abstain_threshold=0)), id="abstain threshold of zero"),
        pytest.param(an_adapter(backbone=BACKBONE.model_copy(update={"id": "other/t5"})), id="backbone id"),
        pytest.param(
            an_adapter(backbone=BACKBONE.model_copy(update={"fingerprint": "sha256:" + "f0" * 32})),
            id="backbone fingerprint",
        ),
        pytest.param(an_adapter(provenance=Provenance(method="superpos", seed=2)), id="seed"),
        pytest.param(
            an_adapter(provenance=Provenance(method="superpos", seed=1, metrics={"accuracy": 0.9})), id="metrics"
        ),
    ],
)
def test_any_change_of_an_adapter_changes_its_digest(other: PromptAdapter) -> None:
    assert other.digest != an_adapter().digest


@pytest.mark.parametrize(
    ("prompt", "check", "value"),
    [
        (a_prompt().astype(np.float64), "prompt dtype", "float64"),
        (a_prompt().astype(np.float16), "prompt dtype", "float16"),
        (a_prompt().ravel(), "prompt shape", "[80]"),
        (a_prompt()[None], "prompt shape", "[1, 10, 8]"),
        (np.zeros((10, 0), np.float32), "prompt shape", "[10, 0]"),
        (np.zeros((0, WIDTH), np.float32), "virtual tokens", 0),
        (np.zeros((MAX_VIRTUAL_TOKENS + 1, WIDTH), np.float32), "virtual tokens", MAX_VIRTUAL_TOKENS + 1),
        (with_value(np.nan), "prompt values", "nan at [3, 5]"),
        (with_value(-np.inf), "prompt values", "-inf at [3, 5]"),
        (with_value(2e5), "prompt row norm", "2e+05 in row 3"),
        (with_value(float(np.finfo(np.float32).max)), "prompt row norm", "3.4e+38 in row 3"),
    ],
)
def test_an_impossible_prompt_cannot_be_built(prompt: NDArray[Any], check: str, value: object) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        an_adapter(prompt)
    assert (caught.value.check, caught.value.value) == (check, value)


def test_the_bounds_themselves_are_taken() -> None:
    prompt = np.zeros((MAX_VIRTUAL_TOKENS, WIDTH), np.float32)
    prompt[0, 0] = MAX_ROW_NORM
    assert an_adapter(prompt).num_virtual_tokens == MAX_VIRTUAL_TOKENS
    assert an_adapter(prompt[:1]).num_virtual_tokens == 1


def test_a_prompt_for_the_backbone_served_passes() -> None:
    an_adapter().check_backbone(fingerprint=FINGERPRINT, width=WIDTH)
    with pytest.raises(InvalidAdapter):
        an_adapter().check_backbone(fingerprint=FINGERPRINT, width=WIDTH + 1)


def test_a_prompt_of_another_width_is_refused_with_both() -> None:
    with pytest.raises(InvalidAdapter) as caught:
        an_adapter().check_backbone(fingerprint=FINGERPRINT, width=768)
    assert (caught.value.check, caught.value.value) == ("prompt width", WIDTH)
    assert "768" in caught.value.expected


def test_a_prompt_for_another_backbone_of_the_same_width_is_refused_with_both() -> None:
    served = "sha256:" + "ab" * 32
    with pytest.raises(InvalidAdapter) as caught:
        an_adapter().check_backbone(fingerprint=served, width=WIDTH)
    assert caught.value.check == "backbone fingerprint"
    assert FINGERPRINT in str(caught.value.value)
    assert "some/t5" in str(caught.value.value)
    assert served in caught.value.expected
