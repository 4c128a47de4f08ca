"""What the command reports where the system refuses a file."""

from pathlib import Path

import pytest
from support.cli import QUICK, Desk, superpos
from support.disk import full_disk

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_fills_up_under_a_run_is_told_in_one_line(desk: Desk, tmp_path: Path, processes: int) -> None:
    given = [desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK]
    several = ["--seeds", "2", "--processes", processes] if processes > 1 else []
    with full_disk(max_bytes=1_000):
        answer = superpos("train", *given, *several)
    assert "run.json: File too large" in answer.refusal()


def test_what_cannot_be_written_or_read_is_told_in_one_line_with_its_name(desk: Desk, tmp_path: Path) -> None:
    file = desk.write("a file", "")
    report = superpos("report", desk.run, "--out", file / "page.html").refusal()
    assert report.startswith(f"{file}: ")
    init = superpos("task", "init", desk.folder / "train.jsonl", "--backbone", desk.tiny_t5, "--out", file / "t.yaml")
    assert init.refusal().startswith(f"{file}")
    (tmp_path / "train.jsonl").symlink_to("/proc/self/mem")  # opens, and cannot be read
    checked = superpos("task", "init", tmp_path / "train.jsonl", "--backbone", desk.tiny_t5, "--out", tmp_path / "t")
    assert "Input/output error" in checked.refusal()
