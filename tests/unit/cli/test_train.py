"""`superpos train` as a tool: interrupted, killed and gone on with; several tasks; several processes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.cli import CONSOLE_SCRIPT, QUICK, QUICK_WORDS, TASK, Desk, superpos
from support.training import curves

from adapters import DEFAULT_TENANT
from adapters.files import from_files, read_folder
from adapters.registry.opening import open_registry
from cli.console import CommandError
from cli.resume import without_credentials
from cli.targets.publish import publish_trained
from cli.task_files import read_task_file
from cli.ui.results import print_results
from cli.ui.training import INTERRUPTED
from training.config.arguments import TrainArguments
from training.data.folds import Fold
from training.runs.folder import RunFolder
from training.runs.layout import RESULT
from training.runs.plan import plan_runs

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def training(desk: Desk, *options: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; what it tells can be read while it trains."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
    words = ["train", desk.task, "--backbone", desk.tiny_t5, *options, *QUICK_WORDS]
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


@pytest.mark.slow
def test_a_process_that_was_killed_is_gone_on_with_to_the_same_curves(desk: Desk, tmp_path: Path) -> None:
    with training(desk, "--out", tmp_path / "run") as process:
        read_until(process, "epoch   2")
        process.kill()
    assert not RunFolder(tmp_path / "run", resume=True).is_finished
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK_WORDS)
    assert "unfinished run; resume it with --resume" in superpos(*words).refusal()
    assert "arguments.lr is 0.01 and was 0.05" in superpos(*words, "--lr", "0.01", "--resume").refusal()
    resumed = superpos(*words, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert "resumes after step" in resumed.stderr
    assert "untrained" not in resumed.stderr
    assert curves(tmp_path / "run") == curves(desk.run)
    assert from_files(read_folder(tmp_path / "run" / "adapter")).prompt.tobytes() == desk.adapter.prompt.tobytes()
    again = superpos(*words, "--resume")
    assert again.code == 0
    assert again.stdout == resumed.stdout
    assert "epoch" not in again.stderr


@pytest.mark.slow
def test_a_second_process_is_kept_out_of_a_run_that_lives(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK_WORDS, "--resume")
    with training(desk, "--out", tmp_path / "run") as process:
        read_until(process, "epoch   1")
        process.send_signal(signal.SIGSTOP)
        second = superpos(*words).refusal()
        process.kill()
        process.wait()
    assert second.startswith(f"another process is using {tmp_path / 'run'}; wait for it to end")
    assert superpos(*words).code == 0, "a process that was killed keeps nobody out"
    assert curves(tmp_path / "run") == curves(desk.run)


@pytest.mark.slow
def test_a_folder_without_the_run_is_not_begun_by_resume(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK_WORDS, "--resume")
    assert f"{tmp_path / 'run'} holds no run to resume" in superpos(*words).refusal()
    assert "holds no run to resume" in superpos(*words, "--seeds", 2).refusal()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_several_tasks_train_in_one_stack_and_end_in_one_table(desk: Desk, tmp_path: Path) -> None:
    other = desk.write("other.yaml", TASK.replace("name: topic", "name: other").replace("{text}", "{text} it is"))
    options = ("--seeds", 2, "--out", tmp_path / "both", "--publish", tmp_path / "registry.sqlite")
    answer = superpos("train", desk.task, other, "--backbone", desk.tiny_t5, *options, *QUICK)
    assert answer.code == 0, answer.stderr
    folders = sorted(str(path.parent.relative_to(tmp_path / "both")) for path in (tmp_path / "both").rglob("run.json"))
    assert folders == ["other/seed0", "other/seed1", "topic/seed0", "topic/seed1"]
    assert "other/seed1  epoch   2" in answer.stderr
    assert "TF-IDF" not in answer.text
    assert answer.text.count("±") == 2
    assert [line.split("@")[0] for line in answer.stdout.splitlines() if "published" in line] == [
        "published topic",
        "published other",
    ]
    assert "two task files have the same name" in superpos("train", desk.task, desk.task).refusal()


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (["--readout", "auto", "--readout-lr", "0.05", *QUICK], {"words", "soft", "pooled", "joint"}),
        (["--readout", "auto", "--method", "head"], {"soft", "pooled", "joint"}),
    ],
)
@pytest.mark.slow
def test_auto_trains_all_readouts_of_a_method(desk: Desk, tmp_path: Path, options: list[str], runs: set[str]) -> None:
    answer = superpos("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "all", *options)
    assert answer.code == 0, answer.stderr
    assert {path.parent.name for path in (tmp_path / "all").rglob("run.json")} == runs
    choice = json.loads((tmp_path / "all" / "choice.json").read_text(encoding="utf-8"))
    assert {candidate["readout"] for candidate in choice["candidates"]} == runs
    assert f"topic: {choice['reason']}" in answer.text
    assert from_files(read_folder(tmp_path / "all" / "adapter")).digest == choice["adapter"]


@pytest.mark.slow
def test_auto_trains_heads_and_prompts_and_publishes_the_one_that_the_selection_rows_choose(
    desk: Desk, tmp_path: Path
) -> None:
    out, registry = tmp_path / "auto", tmp_path / "registry.sqlite"
    options = ("--method", "auto", "--readout", "pooled", "--out", out, "--publish", registry, *QUICK)
    answer = superpos("train", desk.task, "--backbone", desk.tiny_t5, *options)
    assert answer.code == 0, answer.stderr
    assert {path.parent.name for path in out.rglob("run.json")} == {"head", "superpos"}
    choice = json.loads((out / "choice.json").read_text(encoding="utf-8"))
    scores = [candidate["selection_score"] for candidate in choice["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert choice["candidates"][0]["runs"] == [choice["chosen"]]
    assert f"topic: {choice['reason']}" in answer.text
    assert f"published topic@1 {choice['adapter']}" in answer.stdout
    assert from_files(read_folder(out / "adapter")).digest == choice["adapter"]
    again = superpos("train", desk.task, "--backbone", desk.tiny_t5, *options, "--resume")
    assert again.code == 0, again.stderr
    assert "epoch" not in again.stderr
    assert f"already published, nothing changed: topic@1 {choice['adapter']}" in again.stdout
    pushed = superpos("push", out, "copied", "--to", registry)
    assert pushed.stdout.startswith(f"published copied@1 {choice['adapter']}"), pushed.stderr


@pytest.mark.slow
def test_auto_compares_methods_over_seeds_and_folds(desk: Desk, tmp_path: Path) -> None:
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--method", "auto", "--readout", "pooled", *QUICK)
    seeds = superpos(*words, "--seeds", 2, "--epochs", 1, "--out", tmp_path / "seeds")
    assert seeds.code == 0, seeds.stderr
    choice = json.loads((tmp_path / "seeds" / "choice.json").read_text(encoding="utf-8"))
    assert [len(candidate["runs"]) for candidate in choice["candidates"]] == [2, 2]
    assert "mean of 2 runs" in seeds.text
    folds = superpos(*words, "--split", "kfold", "--folds", 2, "--epochs", 1, "--out", tmp_path / "folds")
    assert folds.code == 0, folds.stderr
    assert "superpos, lr 0.05, seed 0: mean of 2 folds" in folds.text
    assert "head, seed 0: all rows, out of fold" in folds.text
    assert not (tmp_path / "folds" / "choice.json").exists()


@pytest.mark.slow
def test_baselines_of_a_cross_validation_are_compared_on_all_rows(desk: Desk, tmp_path: Path) -> None:
    options = [option for option in QUICK if option != "--no-baselines"]
    answer = superpos(
        *("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "folds", *options),
        *("--split", "kfold", "--folds", "2", "--epochs", "1", "--lr", "1e-4", "--readout", "words"),
    )
    assert answer.code == 0, answer.stderr
    rows = {line.split("│")[1].strip(): line.split("│")[2] for line in answer.stdout.splitlines() if "│" in line}
    assert rows["TF-IDF + logistic regression"].startswith(" 1.0000 (1.000–1.000)")
    ours = float(rows["lr 0.0001, seed 0: all rows, out of fold"])
    assert f"A bag of words does better ({ours - 1:+.3f}".replace("-", "−") in answer.text


@pytest.mark.slow
def test_the_command_tells_whether_the_baselines_are_beaten(desk: Desk, tmp_path: Path) -> None:
    options = [option for option in QUICK if option != "--no-baselines"]
    other = desk.write("second.yaml", TASK.replace("name: topic", "name: second"))
    both = superpos(
        *("train", desk.task, other, "--backbone", desk.tiny_t5, "--out", tmp_path / "both", *options),
        *("--epochs", "1", "--readout", "pooled"),
    )
    assert both.code == 0, both.stderr
    head, *rows = (line.split("│") for line in both.stdout.replace("┃", "│").splitlines() if "│" in line)
    column = [cell.strip() for cell in head].index("TF-IDF + logistic regression")
    assert [row[column].strip() for row in rows] == ["1.0000", "1.0000"]
    registry = tmp_path / "registry.sqlite"
    answer = superpos(
        *("train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *options),
        *("--epochs", "1", "--lr", "1e-4", "--readout", "words", "--publish", registry),
    )
    assert "baseline: TF-IDF + logistic regression" in answer.stderr
    row = next(line for line in answer.stdout.splitlines() if "TF-IDF + logistic regression" in line)
    assert "1.0000 (1.000–1.000)" in row
    assert "A bag of words does better (−" in answer.text
    evaluated = superpos(
        "evaluate", tmp_path / "run", desk.task, "--rows", "report", "--backbone", desk.tiny_t5, "--threads", 1
    )
    assert row in evaluated.stdout.splitlines()
    assert superpos("push", tmp_path / "run", "topic", "--to", registry).code == 0
    shown = superpos("show", "topic", "--from", registry)
    assert "topic, report rows of each version" in shown.stdout
    assert "version 1: " in shown.stdout
    assert "A bag of words does better (−" in shown.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "auto", "--split", "paper"], "would choose on the reported rows; use --split honest"),
        (["--method", "auto", "--preset", "paper/full"], "preset 'paper/full' has the method 'full'"),
        (["--readout", "soft,soft"], "expected each readout once"),
        (["--readout", "words", "--readout-lr", "0.1"], "readout 'words' does not use it"),
        (["--resume"], "name it with --out"),
        (["--precision", "fp16"], "T5's activations overflow it"),
        (["--precision", "int8"], "expected fp32, bf16 or auto"),
        (["--clip", "-1"], "clip is -1.0, expected above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(desk: Desk, tmp_path: Path, options: list[str], said: str) -> None:
    words = ["train", desk.task, "--backbone", desk.tiny_t5]
    words += [] if "--resume" in options else ["--out", tmp_path / "run"]
    assert said in superpos(*words, *options).refusal()


@pytest.mark.parametrize(
    ("place", "said"),
    [("http://127.0.0.1:9", "cannot reach http://127.0.0.1:9"), ("{tmp}/none/r.sqlite", "{tmp}/none")],
)
def test_a_place_that_takes_no_adapter_is_refused_before_anything_is_trained(
    desk: Desk, tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "none").write_text("a file", encoding="utf-8")
    to = place.format(tmp=tmp_path)
    for command in ("train", "sweep"):
        options = (desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / command, "--publish", to)
        assert said.format(tmp=tmp_path) in superpos(command, *options).refusal()
        assert not (tmp_path / command).exists()


def test_a_task_that_cannot_be_published_is_kept_and_leaves_the_others_alone(desk: Desk, tmp_path: Path) -> None:
    registry = tmp_path / "registry.sqlite"
    other = desk.folder / "run"
    (tmp_path / "unfinished").mkdir()
    for name in ("run.json", "result.json"):
        (tmp_path / "unfinished" / name).write_bytes((other / name).read_bytes())
    with pytest.raises(CommandError, match="1 of 2 tasks are not published: first"):
        publish_trained([("first", tmp_path / "unfinished"), ("second", other)], str(registry), None)
    assert [info.task for info in open_registry(registry).list(DEFAULT_TENANT)] == ["second"]


@pytest.mark.slow
def test_a_run_that_learned_nothing_is_not_published_and_the_command_that_would_is_told(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, run = tmp_path / "registry.sqlite", tmp_path / "run"
    shutil.copytree(desk.run, run)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result["metrics"] |= {"collapsed": 1.0, "selection_score": result["metrics"]["selection_constant_score"]}
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(CommandError, match="1 of 1 tasks are not published: topic"):
        publish_trained([("topic", run)], str(registry), None)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("topic is not published: it predicts the same label for every row; to publish it")
    assert not registry.exists()
    pushed = superpos(*shlex.split(told[-1])[1:])
    assert pushed.stdout.startswith("published topic@1 "), pushed.stderr


def test_report_rows_of_one_label_do_not_keep_a_run_that_learned_from_being_published(
    desk: Desk, tmp_path: Path
) -> None:
    registry, out = tmp_path / "registry.sqlite", tmp_path / "run"
    desk.write("alike.jsonl", '{"text": "the quick sports", "label": "sports"}\n' * 3)
    task = desk.write("alike.yaml", TASK.replace("validation.jsonl", "alike.jsonl"))
    answer = superpos("train", task, "--backbone", desk.tiny_t5, "--out", out, "--publish", registry, *QUICK)
    assert answer.code == 0, answer.stderr
    assert "collapsed" not in answer.stderr
    assert [task.task for task in open_registry(registry).list(DEFAULT_TENANT)] == ["topic"]


def test_an_untrained_prompt_is_not_published(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(desk.run, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "run" / "result.json").write_text(json.dumps(result | {"best_step": 0}), encoding="utf-8")
    with pytest.raises(CommandError, match="1 of 1 tasks are not published: topic"):
        publish_trained([("topic", tmp_path / "run")], str(tmp_path / "registry.sqlite"), None)
    assert "no training step improved on the untrained prompt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://:pw@host:6379/1?prefix=a", "redis://host:6379/1?prefix=a"),
        ("redis://host?password=pw&username=me&db=2", "redis://host?db=2"),
        ("http://me:pw@host:8080", "http://host:8080"),
        ("./registry.sqlite", "./registry.sqlite"),
        ("an @ sign", "an @ sign"),
    ],
)
def test_the_command_that_goes_on_repeats_no_password(given: str, shown: str) -> None:
    assert without_credentials(given) == shown


@pytest.mark.slow
def test_the_command_trains_the_folds_in_one_stack_and_reports_every_row(desk: Desk, tmp_path: Path) -> None:
    answer = superpos(
        *("train", desk.folder / "topic.yaml", "--backbone", desk.tiny_t5, "--out", tmp_path / "folds", *QUICK),
        *("--split", "kfold", "--folds", "3", "--epochs", "1"),
    )
    assert answer.code == 0, answer.stderr
    assert sorted(path.name for path in (tmp_path / "folds").iterdir() if path.is_dir()) == ["fold1", "fold2", "fold3"]
    assert "mean of 3 folds" in answer.stdout
    lines = [line for line in answer.stdout.splitlines() if "│" in line and "fold" in line]
    accuracies = [float(line.split("│")[2].split("±")[0]) for line in lines]
    assert len(accuracies) == 5
    *folds, mean, together = accuracies
    assert mean == pytest.approx(np.mean(folds), abs=1e-4)
    # folds of 40 rows each: the union's accuracy is their mean
    assert together == pytest.approx(mean, abs=1e-4)


@pytest.mark.slow
def test_a_fold_without_a_result_is_named_and_the_others_are_not_called_all_rows(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_file, above = desk.folder / "topic.yaml", tmp_path / "folds"
    answer = superpos(
        *("train", task_file, "--backbone", desk.tiny_t5, "--out", above, *QUICK),
        *("--split", "kfold", "--folds", "3", "--epochs", "1", "--limit", "24"),
    )
    assert answer.code == 0, answer.stderr
    (above / "fold2" / RESULT).unlink()  # as a process leaves it that was killed
    _, plans = plan_runs(
        [read_task_file(task_file)],
        [(TrainArguments(), Fold(number=number, of=3)) for number in (1, 2, 3)],
        above,
        split="kfold",
        limit=24,
        precision="fp32",
        resume=True,
        tensorboard=False,
    )
    capsys.readouterr()
    print_results(plans)
    told = capsys.readouterr()
    assert "mean of 2 of 3 folds" in told.out
    assert "all rows, out of fold" not in told.out
    assert "lr 0.05, seed 0: no result of fold 2, so no out-of-fold result for all rows" in told.err


def test_a_prompt_of_a_fold_is_not_published(desk: Desk) -> None:
    refusal = superpos(
        *("train", desk.folder / "topic.yaml", "--split", "kfold", "--publish", desk.folder / "registry.sqlite")
    ).refusal()
    assert "kfold" in refusal
