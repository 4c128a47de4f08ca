"""`superpos train ROWS`: a task guessed from rows, trained and published in one command."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support.cli import QUICK, Desk, superpos
from support.training import easy_rows, write_rows

import backbone
import training.runs.processes
from adapters import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from backbone import Backbone, load
from cli.drafts import guess_task
from cli.task_files import read_task_file
from training.data.row_files import RowFiles

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = easy_rows(60, seed=1)


def rows_file(folder: Path, kind: str) -> Path:
    """The same rows in a file of one of the types that rows are in."""
    path = folder / f"emails.{kind}"
    if kind == "jsonl":
        return write_rows(path, ROWS)
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_the_same_task_is_guessed_from_every_type_of_file(tmp_path: Path, tiny: Backbone, kind: str) -> None:
    guess = guess_task(rows_file(tmp_path, kind), tiny, name=None, label=None, text=())
    assert guess.task.name == "emails"
    assert guess.task.spec.template == "text: {text}"
    assert guess.task.spec.label_names == ("business", "sports")
    assert len(RowFiles(guess.task).train.examples) == 60
    guess.write(tmp_path / "elsewhere" / "task.yaml")
    again = read_task_file(tmp_path / "elsewhere" / "task.yaml")
    assert RowFiles(again).train.examples == RowFiles(guess.task).train.examples


@pytest.mark.slow
def test_rows_are_trained_and_published_and_the_task_file_is_kept(desk: Desk, tmp_path: Path) -> None:
    rows, run, registry = rows_file(tmp_path, "csv"), tmp_path / "run", tmp_path / "registry.sqlite"
    words = ("train", rows, "--backbone", desk.tiny_t5, "--out", run, "--publish", registry, *QUICK)
    answer = superpos(*words)
    assert answer.code == 0, answer.stderr
    assert "the task 'emails' was guessed from the rows" in answer.stderr
    assert "label: label (its name; 2 distinct values)  [--label COLUMN]" in answer.stderr
    assert (run / "task.yaml").read_text(encoding="utf-8") in answer.stderr
    assert [info.task for info in open_registry(registry).list(DEFAULT_TENANT)] == ["emails"]
    assert superpos(*words, "--resume").code == 0, "a finished run is kept"
    options = ("--backbone", desk.tiny_t5, "--out", run, "--resume", *QUICK)
    assert superpos("train", run / "task.yaml", *options).code == 0, "the written file describes the same run"


@pytest.mark.slow
def test_a_resumed_run_keeps_an_edited_task_file_and_the_folder_of_a_head_is_published(
    desk: Desk, tmp_path: Path
) -> None:
    rows, run = rows_file(tmp_path, "csv"), tmp_path / "run"
    options = ("--method", "head", "--no-report", "--no-baselines", "--threads", "1", "--precision", "fp32")
    words = ("train", rows, "--backbone", desk.tiny_t5, "--out", run, *options)
    answer = superpos(*words)
    assert answer.code == 0, answer.stderr
    edited = (run / "task.yaml").read_text(encoding="utf-8") + "description: mine\n"
    (run / "task.yaml").write_text(edited, encoding="utf-8")
    assert superpos(*words, "--resume").code == 0
    assert (run / "task.yaml").read_text(encoding="utf-8") == edited
    pushed = superpos("push", run / "adapter", "emails", "--to", tmp_path / "registry.sqlite")
    assert pushed.stdout.startswith("published emails@1 "), pushed.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "several columns could be the label: 'region' (2 distinct values), 'team' (3 distinct values)"),
        (["--label", "nothing"], "unknown column 'nothing', expected one of text, region, team"),
        (["--label", "team", "--text", "body"], "unknown column 'body'"),
    ],
)
def test_rows_that_do_not_decide_the_task_are_refused(
    desk: Desk, tmp_path: Path, options: list[str], said: str
) -> None:
    rows = [{"text": f"row {n} of many", "region": "ab"[n % 2], "team": "xyz"[n % 3]} for n in range(40)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    words = ("train", path, "--backbone", desk.tiny_t5, "--out", tmp_path / "run")
    assert said in superpos(*words, *options).refusal()
    assert not (tmp_path / "run").exists()


def test_options_of_rows_are_refused_with_a_task_file(desk: Desk) -> None:
    refusal = superpos("train", desk.task, "--label", "label").refusal()
    assert refusal == f"--label is for rows without a task file; edit {desk.task} instead"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_guessed_task_loads_the_backbone_once_in_this_process(
    desk: Desk, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def counting(source: str, **options: Any) -> Backbone:
        loaded.append(options["device"])
        return load(source, **options)

    for module in (backbone, training.runs.processes):
        monkeypatch.setattr(module, "load", counting)
    answer = superpos(
        *("train", rows_file(tmp_path, "csv"), "--backbone", desk.tiny_t5, "--out", tmp_path / "run"),
        *("--method", "head", "--seeds", processes, "--processes", processes, "--no-report", "--no-baselines"),
    )
    assert answer.code == 0, answer.stderr
    assert loaded == ["cpu"]


@pytest.mark.slow
def test_shots_are_recorded_and_repeated(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--method", "head", "--no-report", "--no-baselines")
    answer = superpos(*words, "--out", tmp_path / "run", "--shots", 3)
    assert answer.code == 0, answer.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (run["shots"], run["data"]["train_rows"]) == (3, 6)
    assert "--shots 3" in run["command"]
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "; 3 training rows of each label, and at most as many selection rows" in card
    assert f"(6 training and {run['data']['selection_rows']} selection rows; " in card
    assert "shots is 4 and was 3" in superpos(*words, "--out", tmp_path / "run", "--shots", 4, "--resume").refusal()
    assert "too few training rows: label" in superpos(*words, "--out", tmp_path / "many", "--shots", 99).refusal()
