"""The `superpos` command's import of folders that PEFT wrote."""

from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from support.backbone import make_t5
from support.cli import Desk, superpos
from transformers import T5ForConditionalGeneration

from adapters import DEFAULT_TENANT, Ref
from adapters.files import CARD, MANIFEST, from_files, read_folder
from adapters.registry.opening import open_registry

pytestmark = pytest.mark.usefixtures("one_thread")


# PEFT asks `transformers` in a way that will go; it is not ours to mend
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def peft_folder(desk: Desk, tmp_path: Path) -> Path:
    """What PEFT saves of a prompt that it made: two files of its own, and none of ours."""
    torch.manual_seed(0)
    model = get_peft_model(
        T5ForConditionalGeneration.from_pretrained(desk.tiny_t5, dtype=torch.float32),
        PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=5, num_transformer_submodules=1),
    )
    folder = tmp_path / "peft"
    model.save_pretrained(folder)
    (folder / CARD).unlink(missing_ok=True)
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    return folder


@PEFT_WARNS
def test_a_peft_folder_is_imported_with_its_task_file(desk: Desk, tmp_path: Path, peft_folder: Path) -> None:
    place = tmp_path / "registry.sqlite"
    answer = superpos(
        *("import", peft_folder, "foreign", "--task-file", desk.task, "--backbone", desk.tiny_t5, "--to", place)
    )
    assert answer.code == 0, answer.stderr
    registry = open_registry(place)
    found = from_files(registry.get(registry.resolve(DEFAULT_TENANT, Ref.parse("foreign")).digest))
    assert answer.stdout == f"published foreign@1 {found.digest}\n"
    assert found.prompt.shape == (5, 32)
    assert found.spec == desk.adapter.spec
    assert found.manifest.backbone == desk.adapter.manifest.backbone
    assert found.manifest.provenance.method == "peft import"
    superpos("export", "foreign", tmp_path / "exported", "--from", place)
    assert from_files(read_folder(tmp_path / "exported")).digest == found.digest


@PEFT_WARNS
def test_a_peft_folder_without_a_task_file_is_refused(desk: Desk, tmp_path: Path, peft_folder: Path) -> None:
    message = superpos("import", peft_folder, "foreign", "--to", tmp_path / "registry.sqlite").refusal()
    assert MANIFEST in message
    assert "--task-file" in message
    assert not (tmp_path / "registry.sqlite").exists()


@PEFT_WARNS
def test_a_peft_folder_for_a_backbone_of_another_width_is_refused(
    desk: Desk, tmp_path: Path, peft_folder: Path
) -> None:
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    make_t5(narrow, gated=False, width=16)
    words = ["import", peft_folder, "foreign", "--task-file", desk.task, "--backbone", narrow]
    message = superpos(*words, "--to", tmp_path / "registry.sqlite").refusal()
    assert "prompt width" in message
    assert "32" in message
    assert "16" in message


def test_an_adapter_is_published_from_its_url(desk: Desk, tmp_path: Path) -> None:
    place, url = tmp_path / "registry.sqlite", (desk.run / "adapter").as_uri()
    digest = desk.adapter.digest
    assert f"published topic@1 {digest}" in superpos("push", url, "topic", "--to", place).text
    assert f"published again@1 {digest}" in superpos("import", f"{url}#{digest}", "again", "--to", place).text
    other = "sha256:" + "0" * 64
    for command in ("push", "import"):
        message = superpos(command, f"{url}#{other}", "topic", "--to", place).refusal()
        assert message == f"digest of {url}: got {digest}, expected {other}"
        message = superpos(command, "https://example.org/sst2", "topic", "--to", place).refusal()
        assert message.startswith("adapter URL 'https://…' is not valid, expected hf://owner/name")
    (version,) = open_registry(place).describe("default", "topic").versions
    assert version.digest == digest
