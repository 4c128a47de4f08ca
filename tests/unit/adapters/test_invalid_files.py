"""Files that are not an adapter: each is refused with its check, its value and what was expected."""

import pickle
import struct

import numpy as np
import pytest
from support.adapters import (
    WIDTH,
    Change,
    a_prompt,
    an_adapter,
    config,
    file,
    header_only,
    manifest,
    nested,
    saved_by_torch,
    tensors,
    with_value,
    without,
)

from adapters import InvalidAdapter
from adapters.adapter import MAX_VIRTUAL_TOKENS
from adapters.files import CARD, CONFIG, MANIFEST, SIZE_LIMITS, TENSOR, WEIGHTS, from_files, to_files


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
            manifest("schema_version", value=2), f"{MANIFEST}: schema_version", "2", "1, with the", id="schema version"
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
            "appears twice",
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
