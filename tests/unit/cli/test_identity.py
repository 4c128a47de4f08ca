"""A stated identity is kept or refused, and never overwritten by a default: of a backbone, a task or an adapter."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.backbone import make_t5
from support.cli import Desk, superpos

from adapters import PromptAdapter
from adapters.adapter import BackboneRef
from adapters.errors import InvalidAdapter
from adapters.files import CARD, CONFIG, MANIFEST, WEIGHTS, from_files, read_folder, to_files, write_folder
from adapters.registry.opening import open_registry
from training.runs.card import record_adapter
from training.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def other_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another T5 of the same width."""
    return make_t5(tmp_path_factory.mktemp("other-t5"), gated=True, seed=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def exported(desk: Desk, folder: Path, **changes: object) -> Path:
    """The desk's adapter in a folder, with changes in what PEFT reads."""
    files = to_files(desk.adapter)
    config = json.loads(files[CONFIG]) | changes
    write_folder(folder, files | {CONFIG: json.dumps(config).encode()})
    return folder


def from_peft(desk: Desk, folder: Path, **changes: object) -> Path:
    """The same as PEFT would have written it."""
    exported(desk, folder, **changes)
    (folder / MANIFEST).unlink()
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    return folder


def backbone_of(place: Path, task: str) -> BackboneRef:
    registry = open_registry(place)
    (version,) = registry.describe("default", task).versions
    return from_files(registry.get(version.digest)).manifest.backbone


@pytest.mark.parametrize("named_by", ["default", "option"])
@pytest.mark.slow
def test_a_stated_identity_is_not_overwritten_by_a_backbone_of_the_same_width(
    desk: Desk, tmp_path: Path, place: Path, other_t5: Path, named_by: str
) -> None:
    folder = from_peft(desk, tmp_path / "peft")
    words = ["import", folder, "foreign", "--task-file", desk.task, "--to", place]
    if named_by == "default":
        message = superpos(*words, SUPERPOS_BACKBONE=str(other_t5)).refusal()
    else:
        message = superpos(*words, "--backbone", other_t5).refusal()
    assert str(desk.tiny_t5) in message
    assert str(other_t5) in message
    assert not place.exists()
    # both ways out that the message names
    assert superpos(*words, "--backbone", desk.tiny_t5).code == 0
    assert backbone_of(place, "foreign") == desk.adapter.manifest.backbone
    renamed = from_peft(desk, tmp_path / "renamed", base_model_name_or_path=str(other_t5))
    again = ["import", renamed, "renamed", "--task-file", desk.task, "--to", place]
    assert superpos(*again, "--backbone", other_t5).code == 0
    assert backbone_of(place, "renamed").fingerprint != desk.adapter.manifest.backbone.fingerprint


@pytest.mark.slow
def test_a_stated_identity_of_the_embedded_backbones_width_is_not_overwritten(
    desk: Desk, tmp_path: Path, place: Path
) -> None:
    folder = from_peft(desk, tmp_path / "peft", base_model_name_or_path="google/t5-v1_1-small", token_dim=512)
    prompt = np.zeros((desk.adapter.num_virtual_tokens, 512), np.float32)
    wide = PromptAdapter(prompt, desk.adapter.manifest)
    (folder / WEIGHTS).write_bytes(to_files(wide)[WEIGHTS])
    message = superpos("import", folder, "foreign", "--task-file", desk.task, "--to", place).refusal()
    for mention in ("google/t5-v1_1-small", "'embedded'", "--backbone", CONFIG):
        assert mention in message
    assert not place.exists()


@pytest.mark.parametrize("stated", [None, ""])
@pytest.mark.slow
def test_a_folder_that_names_no_backbone_is_imported_for_the_given_one(
    desk: Desk, tmp_path: Path, place: Path, stated: str | None
) -> None:
    folder = from_peft(desk, tmp_path / "peft", base_model_name_or_path=stated)
    words = ["import", folder, "foreign", "--task-file", desk.task, "--backbone", desk.tiny_t5, "--to", place]
    assert superpos(*words).code == 0


def test_a_backbone_is_one_by_whatever_path_it_is_named(
    desk: Desk, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = from_peft(desk, tmp_path / "peft")
    monkeypatch.chdir(desk.tiny_t5.parent)
    words = ["import", folder, "foreign", "--task-file", desk.task, "--to", place]
    assert superpos(*words, "--backbone", f"./{desk.tiny_t5.name}").code == 0


def test_a_stated_revision_is_not_overwritten_by_the_default_one(desk: Desk, tmp_path: Path, place: Path) -> None:
    folder = from_peft(desk, tmp_path / "peft", revision="1a2b3c")
    words = ["import", folder, "foreign", "--task-file", desk.task, "--backbone", desk.tiny_t5, "--to", place]
    message = superpos(*words).refusal()
    assert "'1a2b3c'" in message
    assert "to null" in message
    message = superpos(*words, "--revision", "1a2b3c").refusal()
    assert "only models of the Hub have revisions" in message, "a directory has none that could be checked"
    from_peft(desk, folder, revision=None)
    assert superpos(*words).code == 0


def test_a_stated_backbone_of_an_exported_folder_is_its_fingerprint(
    desk: Desk, tmp_path: Path, place: Path, other_t5: Path
) -> None:
    folder = exported(desk, tmp_path / "exported")
    words = ["import", folder, "topic", "--to", place]
    assert "fingerprint" in superpos(*words, "--backbone", other_t5).refusal()
    copy = shutil.copytree(desk.tiny_t5, tmp_path / "the same T5")
    assert superpos(*words, "--backbone", copy).code == 0
    assert superpos("import", folder, "again", "--to", place).code == 0, "no backbone is named: the folder's own counts"
    assert backbone_of(place, "again") == desk.adapter.manifest.backbone


def test_a_stated_task_of_an_exported_folder_is_not_ignored(desk: Desk, tmp_path: Path, place: Path) -> None:
    folder = exported(desk, tmp_path / "exported")
    words = ["import", folder, "topic", "--to", place, "--task-file"]
    other = desk.write("other.yaml", desk.task.read_text(encoding="utf-8").replace("text: {text}", "body: {text}"))
    message = superpos(*words, other).refusal()
    assert str(other) in message
    assert MANIFEST in message
    assert superpos(*words, desk.task).code == 0


@pytest.mark.parametrize("changes", [{"base_model_name_or_path": "google/t5-small"}, {"revision": "1a2b3c"}])
@pytest.mark.parametrize("command", ["push", "import"])
def test_a_stated_backbone_of_two_names_is_refused(
    desk: Desk, tmp_path: Path, command: str, changes: dict[str, str]
) -> None:
    folder = exported(desk, tmp_path / "exported", **changes)
    words = ["topic", "--to", tmp_path / "registry.sqlite"]
    message = superpos(command, folder, *words).refusal()
    assert all(repr(value) in message for value in changes.values())
    assert MANIFEST in message
    assert superpos(command, exported(desk, folder, **dict.fromkeys(changes)), *words).code == 0


def test_results_of_one_adapter_are_not_recorded_into_another(desk: Desk, tmp_path: Path) -> None:
    folder = exported(desk, tmp_path / "adapter")
    measured = from_files(read_folder(folder))
    retrained = PromptAdapter(measured.prompt + np.float32(1), measured.manifest)
    write_folder(folder, to_files(retrained, card="a card"))
    with pytest.raises(InvalidAdapter, match=measured.digest):
        record_adapter(folder, measured, measured=measured.digest)
    assert from_files(read_folder(folder)).digest == retrained.digest
    assert record_adapter(folder, measured, measured=retrained.digest) == folder
    assert read_folder(folder)[CARD].startswith(b"a card")


@pytest.mark.slow
def test_a_run_that_started_from_one_adapter_is_not_resumed_from_another(desk: Desk, tmp_path: Path) -> None:
    source = exported(desk, tmp_path / "source")
    words = [
        *("train", desk.task, "--backbone", desk.tiny_t5, "--method", "spot", "--source", source, "--no-report"),
        *("--out", tmp_path / "run", "--epochs", "1", "--batch-size", "12", "--num-virtual-tokens", "6"),
    ]
    first = superpos(*words)
    assert first.code == 0, first.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["sources"] == [desk.adapter.digest]
    assert RunFolder(tmp_path / "run", resume=True).is_finished
    retrained = PromptAdapter(desk.adapter.prompt + np.float32(1), desk.adapter.manifest)
    write_folder(source, to_files(retrained))
    message = superpos(*words, "--resume").refusal()
    assert "sources" in message
    assert desk.adapter.digest[:30] in message
    write_folder(source, to_files(desk.adapter))
    assert superpos(*words, "--resume").code == 0
