"""All checks of an upload: each fault is found beside the others, and what cannot be judged is not judged."""

import pytest
from support.adapters import BACKBONE, an_adapter, config, manifest

from adapters.files import CARD, CONFIG, MANIFEST, WEIGHTS, Files, check_all, to_files

WIDTH = an_adapter().width


def results(files: Files) -> dict[str, object]:
    found = check_all(files, fingerprint=BACKBONE.fingerprint, width=WIDTH)
    return {each.name: [fault.check for fault in each.faults] if each.is_run else None for each in found}


def test_good_files_pass_every_check() -> None:
    assert results(to_files(an_adapter())) == {"files": [], "manifest": [], "tensors": [], "backbone": []}


def test_faults_of_all_kinds_are_found_at_once() -> None:
    files = dict(to_files(an_adapter(), card="bell \x07"))
    files = dict(config(peft_type="LORA")(files))
    files = dict(manifest("backbone", "fingerprint", value="sha256:" + "0" * 64)(files))
    files["weights.bin"] = b""
    assert results(files) == {
        "files": ["file name"],
        "manifest": [CARD],
        "tensors": [f"{CONFIG}: peft_type"],
        "backbone": ["backbone fingerprint"],
    }


@pytest.mark.parametrize("name", [MANIFEST, CONFIG, WEIGHTS])
def test_a_missing_file_leaves_out_what_is_read_from_it(name: str) -> None:
    files = {key: data for key, data in to_files(an_adapter()).items() if key != name}
    found = results(files)
    assert found["files"] == ["files"]
    assert (found["manifest"] is None) is (found["backbone"] is None) is (name == MANIFEST)
    assert (found["tensors"] is None) is (name != MANIFEST)


def test_a_manifest_that_cannot_be_read_leaves_the_backbone_open() -> None:
    found = results({**to_files(an_adapter()), MANIFEST: b"{"})
    assert (found["manifest"], found["tensors"], found["backbone"]) == ([MANIFEST], [], None)


def test_a_file_that_is_too_large_is_not_read() -> None:
    found = results({**to_files(an_adapter()), MANIFEST: b" " * (2 << 20)})
    assert found["files"] == [f"size of {MANIFEST}"]
    assert found["manifest"] is None


def test_another_width_is_a_fault_of_the_backbone() -> None:
    found = check_all(to_files(an_adapter()), fingerprint=BACKBONE.fingerprint, width=WIDTH + 1)
    assert [[fault.check for fault in each.faults] for each in found] == [[], [], [], ["prompt width"]]
