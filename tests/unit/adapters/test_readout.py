"""Learned readouts as part of an adapter: digest, files, and every refusal."""

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from support.adapters import (
    TASK,
    WIDTH,
    Change,
    a_learned_adapter,
    a_prompt,
    a_readout,
    an_adapter,
    file,
    manifest,
    readout_tensors,
)

from adapters import InvalidAdapter, Manifest, PromptAdapter
from adapters.adapter import MAX_VIRTUAL_TOKENS, no_prompt
from adapters.files import (
    CONFIG,
    MANIFEST,
    READOUT,
    SIZE_LIMITS,
    TENSOR,
    WEIGHTS,
    from_files,
    to_files,
)
from adapters.readout import BIAS, MAX_VECTOR_NORM, VECTORS, LearnedReadout, ReadoutKind, num_states
from adapters.tensor_files import MAX_HEADER_BYTES


def vectors(value: float | None = None, *, num_labels: int = 2, width: int = WIDTH) -> np.ndarray[Any, Any]:
    array = np.array(a_readout(num_labels, width).label_vectors)
    if value is not None:
        array[1, 3] = value
    return array


@pytest.mark.parametrize("kind", ["soft", "pooled", "joint"])
@pytest.mark.parametrize("num_virtual_tokens", [0, 1, 10])
def test_an_adapter_with_a_learned_readout_is_the_same_after_writing_and_reading(
    kind: ReadoutKind, num_virtual_tokens: int
) -> None:
    adapter = a_learned_adapter(kind, prompt=a_prompt(num_virtual_tokens) if num_virtual_tokens else None)
    files = to_files(adapter)
    back = from_files(files)
    assert back.digest == adapter.digest
    assert (back.manifest.readout, back.num_virtual_tokens) == (kind, num_virtual_tokens)
    assert back.readout is not None
    expected = a_readout(width=num_states(kind) * WIDTH)
    assert np.array_equal(back.readout.label_vectors, expected.label_vectors)
    assert np.array_equal(back.readout.label_bias, expected.label_bias)
    assert to_files(back) == files


def test_without_a_prompt_the_folder_does_not_claim_to_be_a_prompt_for_peft() -> None:
    assert set(to_files(a_learned_adapter())) == {READOUT, MANIFEST}
    assert set(to_files(a_learned_adapter(prompt=a_prompt()))) == {CONFIG, WEIGHTS, READOUT, MANIFEST}
    assert set(safetensors.numpy.load(to_files(a_learned_adapter(prompt=a_prompt()))[WEIGHTS])) == {TENSOR}


def test_an_adapter_without_a_learned_readout_has_the_files_and_the_digest_that_it_always_had() -> None:
    values = json.loads(to_files(an_adapter())[MANIFEST])
    assert values["schema_version"] == 1
    assert "readout" not in values
    assert an_adapter().digest == "sha256:3fe8b0b0d0b7739dffe257eab736a383bf4a9f2b7033e02383b502b34719d4c2"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(a_learned_adapter("pooled"), id="kind"),
        pytest.param(a_learned_adapter("joint"), id="both states"),
        pytest.param(a_learned_adapter(prompt=a_prompt()), id="prompt"),
        pytest.param(a_learned_adapter(readout=LearnedReadout(vectors(0.5), a_readout().label_bias)), id="one number"),
        pytest.param(
            a_learned_adapter(readout=LearnedReadout(a_readout().label_vectors, np.zeros(2, np.float32))), id="bias"
        ),
        pytest.param(
            a_learned_adapter(readout=LearnedReadout(vectors()[::-1], a_readout().label_bias)), id="order of labels"
        ),
        pytest.param(an_adapter(), id="words"),
    ],
)
def test_whatever_differs_in_a_readout_gives_another_digest(other: PromptAdapter) -> None:
    assert other.digest != a_learned_adapter().digest


def test_a_readout_cannot_be_written() -> None:
    readout = a_readout()
    for array in (readout.label_vectors, readout.label_bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def _vectors(array: np.ndarray[Any, Any]) -> Change:
    return readout_tensors(**{VECTORS: array})


def _bias(values: list[float]) -> Change:
    return readout_tensors(**{BIAS: np.array(values, np.float32)})


def _version(version: float, kind: str) -> Change:
    return lambda files: manifest("readout", value=kind)(manifest("schema_version", value=version)(files))


@pytest.mark.parametrize(
    ("change", "check", "value", "expected"),
    [
        pytest.param(
            readout_tensors(**{VECTORS: vectors(num_labels=3), BIAS: np.zeros(3, np.float32)}),
            VECTORS,
            "3 labels",
            "2, the task's",
            id="other K",
        ),
        pytest.param(_bias([0, 0, 0]), BIAS, "3 values", "2, one per", id="other bias"),
        pytest.param(
            lambda files: _vectors(vectors(width=6))(files | to_files(an_adapter())) | _learned(),
            f"{VECTORS} width",
            "6",
            f"{WIDTH}, the prompt's",
            id="other H than the prompt",
        ),
        pytest.param(
            _vectors(vectors().astype(np.float16)),
            f"{READOUT}: dtype of {VECTORS}",
            "F16",
            "F32",
            id="dtype",
        ),
        pytest.param(
            _vectors(vectors()[0]),
            f"{READOUT}: shape of {VECTORS}",
            "[8]",
            "[labels, width]",
            id="one vector",
        ),
        pytest.param(
            _vectors(np.zeros((2, 0), np.float32)),
            f"{VECTORS} shape",
            "[2, 0]",
            "width",
            id="empty",
        ),
        pytest.param(_vectors(vectors(np.nan)), f"{VECTORS} values", "nan at [1, 3]", "finite", id="NaN"),
        pytest.param(
            _bias([0, np.inf]),
            f"{BIAS} values",
            "inf at [1]",
            "finite",
            id="inf",
        ),
        pytest.param(
            _vectors(vectors(MAX_VECTOR_NORM * 2)),
            f"{VECTORS} norm",
            "of label 1",
            "at most",
            id="norm",
        ),
        pytest.param(
            _bias([3e38, 0]),
            f"{BIAS} value",
            "of label 0",
            "at most",
            id="bias",
        ),
        pytest.param(
            readout_tensors(metadata={"labels": json.dumps(TASK.label_names[::-1])}),
            f"{READOUT}: labels",
            "positive",
            "in its order",
            id="labels reordered",
        ),
        pytest.param(readout_tensors(metadata={}), f"{READOUT}: labels", "none", "negative", id="no labels"),
        pytest.param(
            readout_tensors(metadata={"labels": json.dumps(TASK.label_names), "more": ""}),
            f"{READOUT}: metadata",
            "more",
            "no other",
            id="more metadata",
        ),
        pytest.param(
            readout_tensors(metadata={f"{number:x}": "" for number in range(150_000)}),
            f"{READOUT}: header",
            "bytes",
            f"at most {MAX_HEADER_BYTES:,}",
            id="large header",
        ),
        pytest.param(
            readout_tensors(extra=np.zeros(1, np.float32)),
            f"{READOUT}: tensors",
            "extra",
            "no other",
            id="extra tensor",
        ),
        pytest.param(file(READOUT, b"\x80\x04pickle"), READOUT, "a pickle", "safetensors", id="pickle"),
        pytest.param(
            file(READOUT, bytes(SIZE_LIMITS[READOUT] + 1)), f"size of {READOUT}", "bytes", "at most", id="too large"
        ),
        pytest.param(
            lambda files: {MANIFEST: files[MANIFEST]}, "files", MANIFEST, f"{READOUT} among them", id="no readout file"
        ),
        pytest.param(
            lambda files: files | {CONFIG: to_files(an_adapter())[CONFIG]}, "files", CONFIG, WEIGHTS, id="half a prompt"
        ),
        pytest.param(
            lambda files: to_files(an_adapter()) | {READOUT: files[READOUT]},
            "files",
            READOUT,
            "none where superpos.json has the readout 'words'",
            id="readout beside words",
        ),
        pytest.param(_version(1, "soft"), f"{MANIFEST}: schema_version", "1", "2, with", id="version 1 with a readout"),
        pytest.param(_version(2, "words"), f"{MANIFEST}: schema_version", "2", "1, with", id="version 2 without"),
        pytest.param(_version(3, "soft"), f"{MANIFEST}: schema_version", "3", "2, with", id="version 3 without joint"),
        pytest.param(_version(2, "joint"), f"{MANIFEST}: schema_version", "2", "3, with", id="version 2 with joint"),
        pytest.param(_version(2.0, "soft"), f"{MANIFEST}: schema_version", "2.0", "an integer", id="no whole version"),
        pytest.param(_version(4, "soft"), f"{MANIFEST}: schema_version", "4", "a newer Superpos", id="a later version"),
        pytest.param(_version(2, "mean"), f"{MANIFEST}: readout", "'mean'", "'pooled' or 'joint'", id="kind"),
        pytest.param(
            lambda files: _version(3, "joint")(_vectors(vectors(width=WIDTH + 1))(files)),
            f"{VECTORS} width",
            str(WIDTH + 1),
            "an even number, with the readout 'joint'",
            id="joint of an odd width",
        ),
        pytest.param(
            lambda files: _version(3, "joint")(files | _prompt_files()),
            f"{VECTORS} width",
            str(WIDTH),
            f"twice {WIDTH}, the prompt's",
            id="joint with one state",
        ),
    ],
)
def test_a_readout_that_does_not_fit_is_refused_with_check_value_and_expectation(
    change: Change, check: str, value: str, expected: str
) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        from_files(change(to_files(a_learned_adapter())))
    assert caught.value.check == check
    assert value in str(caught.value.value)
    assert expected in caught.value.expected
    assert len(str(caught.value)) < 1_000


def _prompt_files() -> dict[str, bytes]:
    return {name: data for name, data in to_files(an_adapter()).items() if name != MANIFEST}


def _learned() -> dict[str, bytes]:
    return {MANIFEST: to_files(a_learned_adapter())[MANIFEST]}


def test_a_prompt_of_no_tokens_needs_a_learned_readout() -> None:
    with pytest.raises(InvalidAdapter, match=f"virtual tokens: got 0, expected 1 to {MAX_VIRTUAL_TOKENS}"):
        an_adapter(no_prompt(WIDTH))


def test_a_manifest_and_a_readout_must_agree() -> None:
    with pytest.raises(InvalidAdapter, match="readout: got label vectors"):
        PromptAdapter(a_prompt(), an_adapter().manifest, a_readout())
    with pytest.raises(InvalidAdapter, match="readout: got no label vectors"):
        PromptAdapter(a_prompt(), a_learned_adapter().manifest)
    with pytest.raises(ValueError, match="schema_version 1 with readout 'soft', expected 2"):
        Manifest.model_validate(dict(an_adapter().manifest) | {"readout": "soft"})


def test_a_readout_for_another_width_is_refused_like_a_prompt() -> None:
    adapter = a_learned_adapter()
    with pytest.raises(InvalidAdapter, match="width: got 8, expected 512"):
        adapter.check_backbone(fingerprint=adapter.manifest.backbone.fingerprint, width=512)
