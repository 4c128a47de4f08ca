"""`superpos train` as a tool: interrupted, killed and gone on with; several tasks; several processes."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli import CONSOLE_SCRIPT, QUICK, TASK, Desk, superpos
from support.training import curves

from adapters.files import from_files, read_folder
from cli.ui.training import INTERRUPTED
from training.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def training(desk: Desk, *options: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; what it tells can be read while it trains."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
    words = ["train", desk.task, "--backbone", desk.tiny_t5, *options, *QUICK]
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *map(str, words)],
        env={**kept, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process


def read_until(process: subprocess.Popen[str], mention: str) -> str:
    """Standard error up to the line that mentions something."""
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if mention in line:
            return told
    raise AssertionError(f"the process ended: {told}")


def test_a_process_that_was_killed_is_gone_on_with_to_the_same_curves(desk: Desk, tmp_path: Path) -> None:
    with training(desk, "--out", tmp_path / "run") as process:
        read_until(process, "epoch   2")
        process.kill()
    assert not RunFolder(tmp_path / "run", resume=True).is_finished
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK)
    assert "not finished; go on with it by --resume" in superpos(*words).refusal()
    assert "arguments.lr is 0.01 and was 0.05" in superpos(*words, "--lr", "0.01", "--resume").refusal()
    resumed = superpos(*words, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert "goes on after step" in resumed.stderr
    assert "untrained" not in resumed.stderr
    assert curves(tmp_path / "run") == curves(desk.run)
    assert from_files(read_folder(tmp_path / "run" / "adapter")).prompt.tobytes() == desk.adapter.prompt.tobytes()
    again = superpos(*words, "--resume")
    assert again.code == 0
    assert again.stdout == resumed.stdout
    assert "epoch" not in again.stderr


def test_a_second_process_is_kept_out_of_a_run_that_lives(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK, "--resume")
    with training(desk, "--out", tmp_path / "run") as process:
        read_until(process, "epoch   1")
        process.send_signal(signal.SIGSTOP)
        second = superpos(*words).refusal()
        process.kill()
        process.wait()
    assert second.startswith(f"another process works in {tmp_path / 'run'}; wait until it has ended")
    assert superpos(*words).code == 0, "a process that was killed keeps nobody out"
    assert curves(tmp_path / "run") == curves(desk.run)


def test_a_folder_without_the_run_is_not_begun_by_resume(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK, "--resume")
    assert f"{tmp_path / 'run'} holds no run to resume" in superpos(*words).refusal()
    assert "holds no run to resume" in superpos(*words, "--seeds", 2).refusal()
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_the_best_and_tells_the_command_that_goes_on(desk: Desk, tmp_path: Path) -> None:
    options = ("--seeds", "2", "--max-steps", "3000", "--epochs", "4000", "--eval-every", "5")
    with training(desk, "--out", tmp_path / "a run", *options) as process:
        read_until(process, "seed1  epoch   2")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert [line for line in told.splitlines() if line == INTERRUPTED or line.startswith("scoring")] == [
        INTERRUPTED,
        "scoring 1 of 2: seed0",
        "scoring 2 of 2: seed1",
    ]
    assert "2 of 2 runs are unfinished" in told
    for seed in range(2):
        folder = RunFolder(tmp_path / "a run" / f"seed{seed}", resume=True)
        assert from_files(read_folder(folder.adapter)).manifest.provenance.seed == seed
        assert not folder.is_finished
    command = shlex.split(told.splitlines()[-1])
    assert command[:3] == ["superpos", "train", str(desk.task)]
    assert command[-3:] == ["--out", str(tmp_path / "a run"), "--resume"]
    assert command[command.index("--eval-every") + 1] == "5"
    assert command[command.index("--epochs") + 1] == "4"  # as QUICK has it, the last that was said


def test_several_tasks_train_in_one_stack_and_end_in_one_table(desk: Desk, tmp_path: Path) -> None:
    other = desk.write("other.yaml", TASK.replace("name: topic", "name: other").replace("{text}", "{text} it is"))
    options = ("--seeds", 2, "--out", tmp_path / "both", "--publish", tmp_path / "registry.sqlite")
    answer = superpos("train", desk.task, other, "--backbone", desk.tiny_t5, *options, *QUICK)
    assert answer.code == 0, answer.stderr
    folders = sorted(str(path.parent.relative_to(tmp_path / "both")) for path in (tmp_path / "both").rglob("run.json"))
    assert folders == ["other/seed0", "other/seed1", "topic/seed0", "topic/seed1"]
    assert "other/seed1  epoch   2" in answer.stderr
    assert answer.text.count("±") == 2
    assert [line.split("@")[0] for line in answer.stdout.splitlines() if "published" in line] == [
        "published topic",
        "published other",
    ]
    assert "two task files have the same name" in superpos("train", desk.task, desk.task).refusal()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "name it with --out"),
        (["--precision", "fp16"], "T5's activations overflow it"),
        (["--precision", "int8"], "expected fp32 or bf16"),
        (["--clip", "-1"], "clip is -1.0, expected above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(desk: Desk, tmp_path: Path, options: list[str], said: str) -> None:
    words = ["train", desk.task, "--backbone", desk.tiny_t5]
    words += [] if "--resume" in options else ["--out", tmp_path / "run"]
    assert said in superpos(*words, *options).refusal()
