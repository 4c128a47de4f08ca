"""`superpos train --precision auto`."""

import json
from pathlib import Path

import pytest
import torch
from support.cli import QUICK_WORDS, Desk, superpos

from adapters.files import from_files, read_folder
from backbone import fastest_for_training


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_command_chooses_records_and_keeps_the_precision(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, *QUICK_WORDS, "--epochs", 1, "--precision", "auto")
    answer = superpos(*words, "--out", tmp_path / "run")
    assert answer.code == 0, answer.stderr
    fastest = fastest_for_training(torch.device("cpu"))
    assert f"training in {fastest}: " in answer.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["precision"] == fastest
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert adapter.manifest.provenance.hyperparameters["precision"] == fastest
    assert f"precision {fastest}" in (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    resumed = superpos(*words, "--out", desk.run, "--resume", "--epochs", 4)
    assert resumed.code == 0, resumed.stderr
    assert "training in fp32: as the run was begun" in resumed.stderr
