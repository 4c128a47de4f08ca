"""`superpos report`, and the report that `superpos train` leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import QUICK, Desk, superpos

PLOTS = {"learning-curves", "confusion", "reliability", "confidence", "prompt"}


def plots(folder: Path) -> set[str]:
    names = {path.name for path in (folder / "plots").iterdir()}
    assert {name.rsplit(".", 1)[1] for name in names} == {"svg", "png"}
    return {name.rsplit(".", 1)[0] for name in names}


@pytest.mark.slow
def test_training_leaves_a_report_and_says_where(desk: Desk, tmp_path: Path) -> None:
    options = [option for option in QUICK if option != "--no-report"]
    run = tmp_path / "run"
    done = superpos(
        "train", desk.task, "--backbone", desk.tiny_t5, "--out", run, *options, "--epochs", "1", "--tensorboard"
    )
    assert done.code == 0, done.stderr
    assert str(run / "report.html") in done.stderr
    assert "<h1>topic</h1>" in (run / "report.html").read_text(encoding="utf-8")
    assert plots(run) == PLOTS
    assert list((run / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_report_is_made_again_from_the_folder_alone(desk: Desk, tmp_path: Path) -> None:
    assert not (desk.run / "report.html").exists()
    first, second = tmp_path / "first" / "a.html", tmp_path / "second" / "a.html"
    for page in (first, second):
        done = superpos("report", desk.run, "--out", page)
        assert done.stdout.strip() == str(page)
        assert plots(page.parent) == PLOTS
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_several_runs_share_a_page_and_a_folder_of_runs_names_them_all(desk: Desk, tmp_path: Path) -> None:
    options = [*QUICK, "--epochs", "1", "--seeds", "2", "--lr", "0.05,0.01"]
    superpos("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "stack", *options)
    done = superpos("report", tmp_path / "stack")
    assert done.code == 0, done.stderr
    page = (tmp_path / "stack" / "report.html").read_text(encoding="utf-8")
    for name in ("lr 0.05, seed 0", "lr 0.05, seed 1", "lr 0.01, seed 0", "lr 0.01, seed 1", "lr 0.01: mean of 2"):
        assert name in page


@pytest.mark.slow
def test_a_report_needs_neither_torch_nor_the_backbone(desk: Desk, tmp_path: Path) -> None:
    made = "from training.report.page import write_report; from pathlib import Path; import sys; "
    asked = f"write_report([Path({str(desk.run)!r})], Path({str(tmp_path / 'a.html')!r})); "
    subprocess.run(
        [
            sys.executable,
            "-c",
            made + asked + "assert not {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)",
        ],
        check=True,
        cwd=Path(__file__).parents[3],
    )


def test_what_is_no_finished_run_is_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no finished run there" in superpos("report", tmp_path / "empty").refusal()
    (tmp_path / "broken").mkdir()
    for name, text in (("run.json", json.dumps({"task": {}})), ("result.json", "{}")):
        (tmp_path / "broken" / name).write_text(text, encoding="utf-8")
    assert "no task in it" in superpos("report", tmp_path / "broken").refusal()
