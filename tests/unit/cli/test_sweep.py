"""`superpos sweep`: what it prints and writes, what a killed one goes on with, what it refuses."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.cli import CONSOLE_SCRIPT, Desk, superpos

from adapters.files import from_files, read_folder

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = ["--trials", "3", "--parallel", "2", "--lr", "0.01:0.1", "--m", "16,32", "--pruner", "none"]
SHORT = ["--epochs", "2", "--batch-size", "12", "--num-virtual-tokens", "4", "--limit", "60"]
LEARNS = [*SHORT, "--epochs", "4"]
"""Long enough that the best is worth publishing."""


def options(desk: Desk, folder: Path) -> list[object]:
    return [desk.task, "--backbone", desk.tiny_t5, "--out", folder, "--threads", "1"]


@pytest.mark.slow
def test_a_sweep_prints_its_trials_and_the_command_that_makes_the_best_again(desk: Desk, tmp_path: Path) -> None:
    registry, folder = tmp_path / "registry.sqlite", tmp_path / "sweep"
    swept = superpos("sweep", *options(desk, folder), *FEW, *LEARNS, "--publish", registry)
    assert swept.code == 0, swept.stderr
    outcome = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    best = folder / "trials" / f"{outcome['best']:04d}"
    assert [trial["number"] for trial in sorted(outcome["trials"], key=lambda trial: trial["number"])] == [0, 1, 2]
    assert re.findall(r"^trial +(\d)  lr [\d.]+  m (?:16|32)  score ", swept.stderr, re.MULTILINE) == ["0", "1", "2"]
    assert f"{best / 'adapter'}\n" in swept.stdout
    assert f"{outcome['command']}\n" in swept.stdout
    assert "--readout pooled" in outcome["command"]
    adapter = from_files(read_folder(best / "adapter"))
    assert adapter.digest[:19] in superpos("list", "--from", registry).stdout

    again = superpos(*shlex.split(outcome["command"])[1:], "--out", tmp_path / "again", "--threads", "1")
    assert again.code == 0, again.stderr
    prompt = from_files(read_folder(tmp_path / "again" / "adapter")).prompt
    assert np.abs(prompt - adapter.prompt).max() <= 1e-5 * np.abs(prompt).max()

    page = (folder / "sweep.html").read_text(encoding="utf-8")
    assert page.count('<svg class="plot"') >= 2
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page), "the page reaches out of itself"

    more = superpos("sweep", *options(desk, folder), *FEW, *LEARNS, "--resume", "--plain")
    assert more.code == 0, more.stderr
    assert f"trial {outcome['best']} is still the best" in more.stderr
    other = superpos("sweep", *options(desk, folder), *FEW, *LEARNS, "--resume", "--seed", "1")
    assert re.search("holds another sweep: fixed.seed is 0 there, 1 was asked", other.refusal())
    assert "already holds a sweep" in superpos("sweep", *options(desk, folder), *FEW, *LEARNS).refusal()


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_and_repeats_no_trial_that_had_ended(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    given = [*options(desk, folder), *FEW, *SHORT, "--trials", "4", "--epochs", "8", "--plain"]
    command = [CONSOLE_SCRIPT, "sweep", *map(str, given)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("trial   1"):
                break
        deadline = time.monotonic() + 60
        while not (folder / "trials" / "0003" / "metrics.jsonl").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
    ended = {path: path.read_bytes() for path in sorted(folder.glob("trials/*/result.safetensors"))}
    assert [path.parent.name for path in ended] == ["0000", "0001"]
    told = {path: path.stat().st_mtime_ns for path in folder.glob("trials/000[01]/*.json*")}

    resumed = superpos("sweep", *given, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert re.findall(r"^trial +(\d)", resumed.stderr, re.MULTILINE)[:2] == ["4", "5"]
    outcome = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert sorted(trial["number"] for trial in outcome["trials"]) == [0, 1, 4, 5]
    assert outcome["lost"] == 2
    assert {path: path.read_bytes() for path in ended} == ended
    assert {path: path.stat().st_mtime_ns for path in told if path.name != "result.json"} == told
    runs = {number: json.loads((folder / "trials" / number / "run.json").read_text()) for number in ("0002", "0004")}
    assert runs["0002"]["arguments"] == runs["0004"]["arguments"], "the lost trial was not the one asked again"


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (["--lr", "1.0:0.1"], "invalid range 1:0.1, expected 0 < low < high"),
        (["--lr", "0.1:1000"], "lr is 1000.0, expected above 0 and at most 100"),
        (["--method", "superpos,soup"], "method is 'soup', expected one or more of superpos, simple, residual, dpt"),
        (["--method", "spot"], "method is 'spot', expected one or more of superpos, simple, residual, dpt"),
        (["--m", "eight"], "m is 'eight', expected whole numbers separated by commas"),
        (["--metric", "bleu"], "metric is 'bleu', expected one of score, loss, accuracy, macro_f1"),
        (["--readout", "hard"], "readout is 'hard', expected one or more of words, soft, pooled, joint"),
        (["--readout", "words", "--readout-lr", "0.01:0.1"], "readout_lr is 0.01:0.1, but readout 'words' does not"),
        (["--resume"], "holds no sweep to resume"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_swept_is_refused(desk: Desk, tmp_path: Path, given: list[str], refusal: str) -> None:
    answer = superpos("sweep", *options(desk, tmp_path / "sweep"), *SHORT, "--m", "16", *given)
    assert refusal in answer.refusal()


@pytest.mark.parametrize(("package", "extra"), [("optuna", "sweep"), ("ray", "ray")])
def test_a_package_that_is_not_there_is_named_with_its_extra(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    refusal = superpos("sweep", *options(desk, tmp_path / "sweep"), "--ray", "local").refusal()
    assert refusal.endswith(f"needs {package}, which is not installed: pip install 'superpos[{extra}]'")
