"""An adapter's files: the way there and back, its folder, and the folders that PEFT wrote."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.adapters import BACKBONE, TASK, a_prompt, an_adapter, config, tensors

from adapters import Calibration, InvalidAdapter
from adapters.adapter import MAX_VIRTUAL_TOKENS
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


@pytest.mark.parametrize(("submodules", "num_rows"), [(1, 20), (2, 10), (None, 10)])
def test_rows_that_peft_would_not_load_for_so_many_submodules_are_refused(
    submodules: int | None, num_rows: int
) -> None:
    files = tensors(prompt_embeddings=a_prompt(num_rows))(
        config(num_transformer_submodules=submodules)(to_files(an_adapter()))
    )
    with pytest.raises(InvalidAdapter) as caught:
        from_peft_files(files, task=TASK, backbone=BACKBONE)
    assert (caught.value.check, caught.value.value) == (f"{WEIGHTS}: rows of {TENSOR}", num_rows)


@pytest.mark.parametrize("submodules", [0, 3, "2", True])
def test_a_number_of_submodules_that_no_t5_has_is_refused(submodules: object) -> None:
    files = config(num_transformer_submodules=submodules)(to_files(an_adapter()))
    with pytest.raises(InvalidAdapter) as caught:
        from_peft_files(files, task=TASK, backbone=BACKBONE)
    assert caught.value.check == f"{CONFIG}: num_transformer_submodules"


def test_a_peft_folder_needs_no_manifest_but_its_other_files() -> None:
    files = to_files(an_adapter())
    del files[MANIFEST]
    assert np.array_equal(from_peft_files(files, task=TASK, backbone=BACKBONE).prompt, a_prompt())
    for name in (CONFIG, WEIGHTS):
        with pytest.raises(InvalidAdapter, match=f"{name} among them"):
            from_peft_files({key: data for key, data in files.items() if key != name}, task=TASK, backbone=BACKBONE)
