"""Adapters as values and as files: the digest, the round trips, and every refusal of an untrusted upload."""

import io
import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters import BackboneRef, Calibration, InvalidAdapter, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.adapter import MAX_ROW_NORM, MAX_VIRTUAL_TOKENS
from adapters.files import (
    CARD,
    CONFIG,
    MANIFEST,
    SIZE_LIMITS,
    TENSOR,
    WEIGHTS,
    from_files,
    from_peft_files,
    read_folder,
    to_files,
    write_folder,
)

WIDTH = 8
FINGERPRINT = "sha256:" + "0f" * 32
BACKBONE = BackboneRef(id="some/t5", revision="main", fingerprint=FINGERPRINT)
TASK = TaskSpec(template="sentence: {sentence}", labels={"negative": "bad", "positive": "good"})

Files = dict[str, bytes]
Change = Callable[[Files], Files]


def a_prompt(num_virtual_tokens: int = 10, width: int = WIDTH) -> NDArray[np.float32]:
    numbers = np.arange(num_virtual_tokens * width, dtype=np.float32).reshape(num_virtual_tokens, width)
    return (numbers - np.float32(30)) / np.float32(7)


def an_adapter(prompt: NDArray[Any] | None = None, **changes: Any) -> PromptAdapter:
    values = {"task": TASK, "backbone": BACKBONE, "provenance": Provenance(method="superpos", seed=1), **changes}
    return PromptAdapter(a_prompt() if prompt is None else prompt, Manifest(**values))


def edited(files: Files, name: str, edit: Callable[[dict[str, Any]], object]) -> Files:
    """The files with one of the JSON files changed in place."""
    value = json.loads(files[name])
    edit(value)
    return files | {name: json.dumps(value).encode()}


def config(**changes: object) -> Change:
    return lambda files: edited(files, CONFIG, lambda value: value.update(changes))


def manifest(*path: str, value: object) -> Change:
    """Sets one place of `superpos.json`."""

    def edit(root: dict[str, Any]) -> None:
        for key in path[:-1]:
            root = root[key]
        root[path[-1]] = value

    return lambda files: edited(files, MANIFEST, edit)


def without(name: str, key: str) -> Change:
    return lambda files: edited(files, name, lambda value: value.pop(key))


def file(name: str, data: bytes) -> Change:
    return lambda files: files | {name: data}


def tensors(**arrays: NDArray[Any]) -> Change:
    return file(WEIGHTS, safetensors.numpy.save(arrays))


def header_only(*shape: int, dtype: str = "F32", size: int = 0) -> Change:
    """A safetensors file with a header of our choice and zeros behind it."""
    header = json.dumps({TENSOR: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return file(WEIGHTS, struct.pack("<Q", len(header)) + header + bytes(size))


def saved_by_torch(*, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    value = {TENSOR: torch.from_numpy(a_prompt())}
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_value(value: float) -> NDArray[np.float32]:
    prompt = a_prompt()
    prompt[3, 5] = value
    return prompt


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return b'{"schema_version": ' + (opening * depth + "1" + closing * depth).encode() + b"}"


# --- the adapter as a value


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


# --- files and back


@pytest.mark.parametrize("num_virtual_tokens", [1, 10, MAX_VIRTUAL_TOKENS])
def test_an_adapter_comes_back_the_same_from_its_files(num_virtual_tokens: int) -> None:
    adapter = an_adapter(a_prompt(num_virtual_tokens), calibration=Calibration(temperature=1.25))
    back = from_files(to_files(adapter, card="# A card\n"))
    assert back.digest == adapter.digest
    assert back.manifest == adapter.manifest
    assert np.array_equal(back.prompt, adapter.prompt)
    assert not back.prompt.flags.writeable


def test_the_same_adapter_gives_the_same_bytes() -> None:
    adapter = an_adapter()
    assert to_files(adapter) == to_files(an_adapter()) == to_files(from_files(to_files(adapter)))


def test_an_adapter_comes_back_the_same_from_a_folder(tmp_path: Path) -> None:
    files = to_files(an_adapter(), card="# A card\n")
    folder = tmp_path / "some" / "new folder"
    write_folder(folder, files)
    assert read_folder(folder) == files
    assert from_files(read_folder(folder)).digest == an_adapter().digest


def test_the_card_is_no_part_of_the_digest() -> None:
    assert set(to_files(an_adapter())) == {CONFIG, WEIGHTS, MANIFEST}
    assert to_files(an_adapter(), card="# ü\n")[CARD] == "# ü\n".encode()
    assert from_files(to_files(an_adapter(), card="# A card\n")).digest == an_adapter().digest


def test_json_laid_out_otherwise_is_the_same_adapter() -> None:
    files = to_files(an_adapter())
    for name in (CONFIG, MANIFEST):
        files[name] = json.dumps(json.loads(files[name]), sort_keys=True, separators=(",", ":")).encode()
    assert from_files(files).digest == an_adapter().digest


def test_fields_left_at_their_defaults_may_be_absent() -> None:
    files = to_files(an_adapter())
    bare = {
        "task": {"template": TASK.template, "labels": {"negative": "bad", "positive": "good"}},
        "backbone": BACKBONE.model_dump(),
        "provenance": {"method": "superpos", "seed": 1},
    }
    assert from_files(files | {MANIFEST: json.dumps(bare).encode()}).digest == an_adapter().digest


def test_other_files_of_a_folder_are_left_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, to_files(an_adapter()))
    (tmp_path / "optimizer.pt").write_bytes(b"whatever")
    (tmp_path / CARD).mkdir()
    assert set(read_folder(tmp_path)) == {CONFIG, WEIGHTS, MANIFEST}


def test_a_folder_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        read_folder(tmp_path / "nothing")
    assert (caught.value.check, caught.value.value) == ("adapter folder", str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, CARD])
def test_a_file_of_a_folder_over_its_limit_is_refused(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, to_files(an_adapter()))
    (tmp_path / name).write_bytes(bytes(4 * SIZE_LIMITS[name]))
    with pytest.raises(InvalidAdapter) as caught:
        from_files(read_folder(tmp_path))
    assert caught.value.check == f"size of {name}"


# --- refusals


def test_the_files_that_the_refusals_start_from_are_taken() -> None:
    assert from_files(to_files(an_adapter())).digest == an_adapter().digest


@pytest.mark.parametrize(
    ("change", "check", "value", "expected"),
    [
        pytest.param(file(WEIGHTS, pickle.dumps([1])), WEIGHTS, "a pickle", "a whole safetensors file", id="pickle"),
        pytest.param(
            file(WEIGHTS, saved_by_torch(legacy=True)), WEIGHTS, "a pickle", "safetensors", id="torch legacy pickle"
        ),
        pytest.param(file(WEIGHTS, saved_by_torch(legacy=False)), WEIGHTS, "a zip", "safetensors", id="torch zip"),
        pytest.param(file(WEIGHTS, b""), WEIGHTS, "0 bytes", "safetensors", id="empty"),
        pytest.param(
            lambda files: files | {WEIGHTS: files[WEIGHTS][:-1]}, WEIGHTS, "bytes", "safetensors", id="short by a byte"
        ),
        pytest.param(
            lambda files: files | {WEIGHTS: files[WEIGHTS][:40]}, WEIGHTS, "40 bytes", "safetensors", id="cut header"
        ),
        pytest.param(
            lambda files: files | {WEIGHTS: files[WEIGHTS] + b"\0"},
            WEIGHTS,
            "bytes",
            "safetensors",
            id="long by a byte",
        ),
        pytest.param(header_only(2**62, 2**62), WEIGHTS, "bytes", "safetensors", id="shape that overflows"),
        pytest.param(
            file(WEIGHTS, struct.pack("<Q", 2**60) + b"{}"), WEIGHTS, "10 bytes", "safetensors", id="huge header"
        ),
        pytest.param(tensors(prompt=a_prompt()), f"{WEIGHTS}: tensors", "prompt", TENSOR, id="tensor name"),
        pytest.param(
            tensors(prompt_embeddings=a_prompt(), extra=a_prompt()),
            f"{WEIGHTS}: tensors",
            "extra",
            f"{TENSOR} and no other",
            id="additional tensor",
        ),
        pytest.param(tensors(), f"{WEIGHTS}: tensors", "none", TENSOR, id="no tensor"),
        pytest.param(
            tensors(prompt_embeddings=a_prompt().astype(np.float16)),
            f"{WEIGHTS}: dtype of {TENSOR}",
            "F16",
            "F32",
            id="float16",
        ),
        pytest.param(
            tensors(prompt_embeddings=a_prompt().astype(np.float64)),
            f"{WEIGHTS}: dtype of {TENSOR}",
            "F64",
            "F32",
            id="float64",
        ),
        pytest.param(
            tensors(prompt_embeddings=a_prompt()[None]),
            f"{WEIGHTS}: shape of {TENSOR}",
            "[1, 10, 8]",
            "[virtual tokens, width]",
            id="3-d",
        ),
        pytest.param(
            tensors(prompt_embeddings=a_prompt().ravel()),
            f"{WEIGHTS}: shape of {TENSOR}",
            "[80]",
            "[virtual tokens, width]",
            id="1-d",
        ),
        pytest.param(header_only(0, WIDTH), f"{WEIGHTS}: rows of {TENSOR}", "0", "10", id="no rows"),
        pytest.param(config(token_dim=16), f"{CONFIG}: token_dim", "16", "8", id="width unlike the config's"),
        pytest.param(without(CONFIG, "token_dim"), f"{CONFIG}: token_dim", "None", "8", id="no token_dim"),
        pytest.param(tensors(prompt_embeddings=with_value(np.nan)), "prompt values", "nan", "finite", id="nan"),
        pytest.param(tensors(prompt_embeddings=with_value(np.inf)), "prompt values", "inf", "finite", id="inf"),
        pytest.param(
            tensors(prompt_embeddings=with_value(1e30)), "prompt row norm", "1e+30 in row 3", "at most", id="huge norm"
        ),
        pytest.param(
            lambda files: tensors(prompt_embeddings=a_prompt(200))(config(num_virtual_tokens=200)(files)),
            f"{CONFIG}: num_virtual_tokens",
            "200",
            f"1 to {MAX_VIRTUAL_TOKENS}",
            id="200 virtual tokens",
        ),
        pytest.param(
            config(num_virtual_tokens=9), f"{WEIGHTS}: rows of {TENSOR}", "10", "9", id="fewer virtual tokens than rows"
        ),
        pytest.param(
            config(num_virtual_tokens=20), f"{WEIGHTS}: rows of {TENSOR}", "10", "20", id="more virtual tokens"
        ),
        pytest.param(config(num_virtual_tokens=0), f"{CONFIG}: num_virtual_tokens", "0", "1 to", id="no virtual token"),
        pytest.param(
            config(num_virtual_tokens="10"), f"{CONFIG}: num_virtual_tokens", "10", "an integer", id="count as text"
        ),
        pytest.param(
            lambda files: tensors(prompt_embeddings=a_prompt(1))(config(num_virtual_tokens=True)(files)),
            f"{CONFIG}: num_virtual_tokens",
            "True",
            "an integer",
            id="count as a boolean",
        ),
        pytest.param(
            tensors(prompt_embeddings=a_prompt(20)), f"{WEIGHTS}: rows of {TENSOR}", "20", "10", id="twice the rows"
        ),
        pytest.param(
            without(CONFIG, "task_type"), f"{CONFIG}: task_type", "nothing", "SEQ_2_SEQ_LM", id="no task_type"
        ),
        pytest.param(config(task_type="CAUSAL_LM"), f"{CONFIG}: task_type", "CAUSAL_LM", "SEQ_2_SEQ", id="task_type"),
        pytest.param(config(peft_type="LORA"), f"{CONFIG}: peft_type", "LORA", "PROMPT_TUNING", id="peft_type"),
        pytest.param(without(CONFIG, "peft_type"), f"{CONFIG}: peft_type", "nothing", "PROMPT", id="no peft_type"),
        pytest.param(file(CONFIG, b"[]"), CONFIG, "list", "a JSON object", id="config a list"),
        pytest.param(file(CONFIG, b"\xff\xfe\x00"), CONFIG, "", "a JSON object in UTF-8", id="config no text"),
        *(
            pytest.param(
                lambda files, name=name: {key: data for key, data in files.items() if key != name},
                "files",
                ", ".join(sorted({CONFIG, WEIGHTS, MANIFEST} - {name})),
                f"{name} among them",
                id=f"without {name}",
            )
            for name in (CONFIG, WEIGHTS, MANIFEST)
        ),
        pytest.param(lambda _: {}, "files", "none", "among them", id="no files"),
        pytest.param(
            file("adapter_model.bin", saved_by_torch(legacy=False)), "file name", "adapter_model.bin", CONFIG, id="name"
        ),
        pytest.param(file("../superpos.json", b"{}"), "file name", "../superpos.json", CONFIG, id="name with a path"),
        *(
            pytest.param(
                file(name, b" " * (SIZE_LIMITS[name] + 1)),
                f"size of {name}",
                f"{SIZE_LIMITS[name] + 1} bytes",
                f"at most {SIZE_LIMITS[name]} bytes",
                id=f"oversize {name}",
            )
            for name in (CONFIG, WEIGHTS, MANIFEST, CARD)
        ),
        pytest.param(file(MANIFEST, b"not json"), MANIFEST, "line 1 column", "a JSON object in UTF-8", id="no JSON"),
        pytest.param(file(MANIFEST, b""), MANIFEST, "", "a JSON object in UTF-8", id="empty JSON"),
        pytest.param(file(MANIFEST, b'{"a": "\xc3"}'), MANIFEST, "", "a JSON object in UTF-8", id="broken UTF-8"),
        pytest.param(file(MANIFEST, b"[1]"), MANIFEST, "list", "a JSON object", id="a list"),
        pytest.param(file(MANIFEST, b"null"), MANIFEST, "NoneType", "a JSON object", id="null"),
        pytest.param(file(MANIFEST, b"1" * 5_000), MANIFEST, "", "a JSON object", id="a number of 5,000 digits"),
        pytest.param(
            manifest("surprise", value=1),
            f"{MANIFEST}: surprise",
            "1",
            "extra inputs are not permitted",
            id="extra key",
        ),
        pytest.param(
            manifest("task", "surprise", value=1),
            f"{MANIFEST}: task.surprise",
            "1",
            "extra inputs",
            id="extra task key",
        ),
        pytest.param(without(MANIFEST, "task"), f"{MANIFEST}: task", "nothing", "field required", id="no task"),
        pytest.param(without(MANIFEST, "backbone"), f"{MANIFEST}: backbone", "nothing", "required", id="no backbone"),
        pytest.param(
            manifest("schema_version", value=2), f"{MANIFEST}: schema_version", "2", "should be 1", id="schema version"
        ),
        pytest.param(
            manifest("backbone", "fingerprint", value="sha256:abc"),
            f"{MANIFEST}: backbone.fingerprint",
            "'sha256:abc'",
            "should match pattern",
            id="fingerprint",
        ),
        pytest.param(
            manifest("task", "template", value="{a.b}"), f"{MANIFEST}: task", "{a.b}", "has a brace", id="template"
        ),
        pytest.param(
            manifest("task", "labels", value={"a": "x", "b": "x"}),
            f"{MANIFEST}: task",
            "'x'",
            "stands twice",
            id="labels",
        ),
        pytest.param(
            manifest("calibration", "temperature", value=0),
            f"{MANIFEST}: calibration.temperature",
            "0",
            "greater than or equal to 0.01",
            id="temperature of zero",
        ),
        pytest.param(
            manifest("calibration", "abstain_threshold", value=1.5),
            f"{MANIFEST}: calibration.abstain_threshold",
            "1.5",
            "less than or equal to 1",
            id="threshold above one",
        ),
        *(
            pytest.param(
                lambda files, number=number: (
                    files | {MANIFEST: files[MANIFEST].replace(b'"metrics": {}', b'"metrics": {"loss": %s}' % number)}
                ),
                MANIFEST,
                "",
                "",
                id=f"{number.decode()} in the metrics",
            )
            for number in (b"NaN", b"Infinity", b"-Infinity", b"1e400")
        ),
        pytest.param(file(MANIFEST, nested(400_000)), MANIFEST, "recursion", "a JSON object", id="deep lists"),
        pytest.param(
            file(MANIFEST, nested(100_000, '{"a":', "}")), MANIFEST, "recursion", "a JSON object", id="deep objects"
        ),
        pytest.param(file(CONFIG, nested(30_000)), CONFIG, "recursion", "a JSON object", id="deep config"),
    ],
)
def test_files_that_are_no_adapter_are_refused_with_check_value_and_expectation(
    change: Change, check: str, value: str, expected: str
) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        from_files(change(to_files(an_adapter())))
    if expected:
        assert caught.value.check == check
    assert caught.value.check.startswith(check)
    assert value in str(caught.value.value)
    assert expected in caught.value.expected
    assert len(str(caught.value)) < 1_000


class Canary:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, CARD])
def test_nothing_is_ever_unpickled(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "unpickled"
    data = pickle.dumps(Canary(canary))
    pickle.loads(data)
    assert canary.exists(), "the canary does not sing"
    canary.unlink()
    try:
        from_files(to_files(an_adapter(), card="# A card\n") | {name: data})
    except InvalidAdapter:
        assert name != CARD
    assert not canary.exists()


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_nested_near_a_parsers_limit_is_refused_like_any_other(name: str, opening: str, closing: str) -> None:
    files = to_files(an_adapter())
    for depth in (*range(150, 250, 5), *range(900, 1_000, 5)):
        with pytest.raises(InvalidAdapter):
            from_files(files | {name: nested(depth, opening, closing)})


UNSAFE_INTEGER = 2**53
"""The first integer that canonical JSON (RFC 8785) cannot hold."""


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(manifest("provenance", "seed", value=UNSAFE_INTEGER), id="seed"),
        pytest.param(manifest("provenance", "seed", value=-(10**30)), id="negative seed"),
        pytest.param(manifest("provenance", "sampled_token_ids", value=[UNSAFE_INTEGER]), id="sampled token ids"),
        pytest.param(manifest("provenance", "hyperparameters", value={"steps": UNSAFE_INTEGER}), id="hyperparameters"),
        pytest.param(manifest("provenance", "data", value={"rows": UNSAFE_INTEGER}), id="data"),
        pytest.param(manifest("provenance", "hyperparameters", value={"note": "\ud800"}), id="surrogate in a value"),
        pytest.param(manifest("provenance", "hyperparameters", value={"\ud800": 1}), id="surrogate in a key"),
        pytest.param(manifest("provenance", "data", value={"file": "\udfff"}), id="surrogate in the data"),
        pytest.param(manifest("provenance", "software", value={"torch": "\udfff"}), id="surrogate in the software"),
        pytest.param(manifest("provenance", "method", value="\ud800"), id="surrogate in the method"),
        pytest.param(manifest("backbone", "id", value="\ud800"), id="surrogate in the backbone"),
        pytest.param(manifest("task", "template", value="\ud800 {sentence}"), id="surrogate in the template"),
        pytest.param(manifest("task", "labels", value={"\ud800": "x", "b": "y"}), id="surrogate in a label"),
    ],
)
def test_what_has_no_canonical_form_is_refused_before_it_needs_a_digest(change: Change) -> None:
    with pytest.raises(InvalidAdapter):
        from_files(change(to_files(an_adapter())))


def test_a_refusal_can_be_sent_as_utf8_whatever_was_in_the_files() -> None:
    files = to_files(an_adapter())
    for change in (config(peft_type="\ud800"), manifest("\ud800", value=1), config(token_dim="\udfff")):
        with pytest.raises(InvalidAdapter) as caught:
            from_files(change(files))
        str(caught.value).encode()


MANY = [f"{number:x}" for number in range(60_000)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda files: (
                files
                | {
                    MANIFEST: files[MANIFEST].replace(
                        b'"sampled_token_ids": []', b'"sampled_token_ids": [%s1]' % (b"[]," * 150_000)
                    )
                }
            ),
            id="sampled token ids",
        ),
        pytest.param(
            lambda files: files | {MANIFEST: b'{"task": {"template": "{a}", "labels": [' + b"0," * 150_000 + b"0]}}"},
            id="labels",
        ),
        pytest.param(manifest("provenance", "hyperparameters", value={key: [] for key in MANY}), id="hyperparameters"),
        pytest.param(manifest("provenance", "metrics", value=dict.fromkeys(MANY, "x")), id="metrics"),
        pytest.param(
            lambda files: edited(files, MANIFEST, lambda root: root.update(dict.fromkeys(MANY, 1))), id="keys"
        ),
    ],
)
def test_a_manifest_with_an_error_in_every_item_costs_little_memory(change: Change) -> None:
    files = change(to_files(an_adapter()))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidAdapter):
            from_files(files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


# --- folders that PEFT wrote


@pytest.mark.parametrize("submodules", [2, None])
def test_the_first_half_of_a_prompt_stored_for_two_submodules_is_imported(submodules: int | None) -> None:
    files = to_files(an_adapter())
    del files[MANIFEST]
    files = tensors(prompt_embeddings=a_prompt(20))(config(num_transformer_submodules=submodules)(files))
    adapter = from_peft_files(files, task=TASK, backbone=BACKBONE)
    assert np.array_equal(adapter.prompt, a_prompt(20)[:10])
    assert adapter.manifest.task == TASK
    assert adapter.manifest.backbone == BACKBONE
    assert from_files(to_files(adapter)).digest == adapter.digest


@pytest.mark.parametrize("submodules", [1, 3, "2"])
def test_twice_the_rows_are_refused_where_there_is_one_submodule(submodules: object) -> None:
    files = tensors(prompt_embeddings=a_prompt(20))(
        config(num_transformer_submodules=submodules)(to_files(an_adapter()))
    )
    with pytest.raises(InvalidAdapter) as caught:
        from_peft_files(files, task=TASK, backbone=BACKBONE)
    assert (caught.value.check, caught.value.value) == (f"{WEIGHTS}: rows of {TENSOR}", 20)


def test_a_peft_folder_needs_no_manifest_but_its_other_files() -> None:
    files = to_files(an_adapter())
    del files[MANIFEST]
    assert np.array_equal(from_peft_files(files, task=TASK, backbone=BACKBONE).prompt, a_prompt())
    for name in (CONFIG, WEIGHTS):
        with pytest.raises(InvalidAdapter, match=f"{name} among them"):
            from_peft_files({key: data for key, data in files.items() if key != name}, task=TASK, backbone=BACKBONE)


# --- fuzz

FUZZED = to_files(an_adapter(calibration=Calibration(temperature=1.5, abstain_threshold=0.25)), card="# A card\n")


def either_an_adapter_or_refused(files: Files) -> None:
    """Anything but an adapter that can be named and written again, or `InvalidAdapter`, fails the test."""
    try:
        adapter = from_files(files)
    except InvalidAdapter:
        return
    assert from_files(to_files(adapter)).digest == adapter.digest


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([CONFIG, WEIGHTS, MANIFEST]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
    st.none() | st.floats(0, 1),
    st.binary(max_size=4),
)
def test_files_with_random_bytes_are_an_adapter_or_refused(
    name: str, edits: list[tuple[float, int]], cut: float | None, tail: bytes
) -> None:
    data = bytearray(FUZZED[name])
    for place, value in edits:
        # most headers and keys stand in front: half of the edits fall there
        span = min(len(data), 256) if value % 2 else len(data)
        data[int(place * span)] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    either_an_adapter_or_refused(FUZZED | {name: bytes(data) + tail})


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(2**53) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([CONFIG, MANIFEST]), st.data())
def test_files_with_any_json_in_any_place_are_an_adapter_or_refused(name: str, data: st.DataObject) -> None:
    root: dict[str | int, Any] = {"root": json.loads(FUZZED[name])}
    path = ("root", *data.draw(st.sampled_from(places(root["root"]))))
    parent: Any = root
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(any_json)
    either_an_adapter_or_refused(FUZZED | {name: json.dumps(root["root"]).encode()})
