"""`superpos library`, `superpos similar` and `superpos train --start auto`."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.cli import CONSOLE_SCRIPT, Desk, superpos

from adapters.files import from_files, read_folder

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

SIZES = ["--num-virtual-tokens", "6", "--batch-size", "12", "--threads", "1"]


def library(desk: Desk, folder: Path, *more: object) -> tuple[list[object], Path]:
    """The options that train a library of two tasks, and its folder."""
    second = desk.task.with_name("second.yaml")
    if not second.exists():
        second.write_text(desk.task.read_text(encoding="utf-8").replace("name: topic", "name: second"))
    out = folder / "library"
    options = [desk.task, second, "--backbone", desk.tiny_t5, "--out", out, *SIZES, "--max-steps", "4", "--plain"]
    return [*options, "--limit", "36", "--seeds", "2", *more], out


def test_a_library_is_trained_resumed_and_distilled_into_what_mpt_and_ipt_start_from(
    desk: Desk, tmp_path: Path
) -> None:
    options, folder = library(desk, tmp_path)
    first = superpos("library", "train", *options)
    assert first.code == 0, first.stderr
    assert "4 of 4 prompts are unfinished" in first.stderr
    assert "topic" in first.stdout
    assert "second" in first.stdout
    again = superpos("library", "train", *options)
    assert again.code == 0, again.stderr
    assert "0 of 4 prompts are unfinished" in again.stderr
    more = superpos("library", "train", *options, "--seeds", "3")
    assert more.code == 0, more.stderr
    assert "2 of 6 prompts are unfinished" in more.stderr
    changed = superpos("library", "train", *options, "--max-steps", "5").refusal()
    assert "its settings differ: arguments.max_steps is 5 and was 4" in changed

    own = ["--backbone", desk.tiny_t5, "--threads", "1", "--steps", "3", "--batch-size", "4"]
    shared = superpos("library", "share", folder, *own, "--out", tmp_path / "shared")
    assert shared.code == 0, shared.stderr
    assert "a shared prompt of 2 tasks, sha256:" in shared.stdout
    assert f"superpos train TASK.yaml --method mpt --source {tmp_path / 'shared'}" in shared.stdout
    subspace = superpos("library", "subspace", folder, *own, "--hidden", "8", "-d", "3", "--out", tmp_path / "d3")
    assert subspace.code == 0, subspace.stderr
    assert "a subspace of 3 dimensions of 6 prompts, sha256:" in subspace.stdout
    occupied = superpos("library", "share", folder, *own, "--out", tmp_path / "shared").refusal()
    assert "already holds a prior.safetensors" in occupied

    quick = [
        "--backbone",
        desk.tiny_t5,
        *SIZES,
        "--epochs",
        "1",
        "--no-report",
        "--no-baselines",
        "--precision",
        "fp32",
    ]
    for method, source in (("mpt", "shared"), ("ipt", "d3")):
        out = tmp_path / method
        done = superpos("train", desk.task, *quick, "--method", method, "--source", tmp_path / source, "--out", out)
        assert done.code == 0, done.stderr
        assert (out / "adapter").is_dir()
    wrong = superpos(
        "train", desk.task, *quick, "--method", "mpt", "--source", tmp_path / "d3", "--out", tmp_path / "x"
    )
    assert (
        wrong.refusal()
        == f"source {tmp_path / 'd3'}: it holds a 'subspace', expected a 'shared' of 'superpos library share'"
    )


def adapters(folder: Path) -> dict[str, bytes]:
    """The prompt of each run under a folder."""
    return {
        str(path.relative_to(folder)): from_files(read_folder(path)).prompt.tobytes()
        for path in sorted(folder.glob("*/*/adapter"))
    }


def test_a_stack_that_was_interrupted_is_resumed_to_the_same_prompts(desk: Desk, tmp_path: Path) -> None:
    steps = ("--max-steps", "40", "--eval-every", "5", "--precision", "fp32")
    options, folder = library(desk, tmp_path, *steps)
    words = [CONSOLE_SCRIPT, "library", "train", *map(str, options)]
    with subprocess.Popen(
        words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "step    10" in line)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert f"the same command resumes the library in {folder}" in rest
    resumed = superpos("library", "train", *options)
    assert resumed.code == 0, resumed.stderr
    assert "4 of 4 prompts are unfinished" in resumed.stderr
    assert "resumes after step" in resumed.stderr
    (tmp_path / "whole").mkdir()
    whole, other = library(desk, tmp_path / "whole", *steps)
    assert superpos("library", "train", *whole).code == 0
    assert adapters(folder) == adapters(other)
    assert len(adapters(other)) == 4


def test_adapters_are_ranked_and_a_training_starts_from_the_best(desk: Desk, tmp_path: Path) -> None:
    options, folder = library(desk, tmp_path)
    assert superpos("library", "train", *options).code == 0
    ranked = [
        desk.task,
        "--backbone",
        desk.tiny_t5,
        "--threads",
        "1",
        "--from",
        folder,
        "--steps",
        "4",
        "--limit",
        "36",
        "--num-sampled-tokens",
        "32",
        "--batch-size",
        "12",
    ]
    table = superpos("similar", *ranked)
    assert table.code == 0, table.stderr
    assert "transferability" in table.stdout
    answer = superpos("similar", *ranked, "--trial", "--json")
    assert answer.code == 0, answer.stderr
    ranking = json.loads(answer.stdout)
    assert ranking["task"] == "topic"
    assert len(ranking["starts"]) == 2, "both tasks have the same rows, and each seed the same adapter"
    assert all(0 <= start["trial_score"] <= 1 for start in ranking["starts"])

    scores = [start["trial_score"] for start in ranking["starts"]]
    assert scores == sorted(scores, reverse=True)

    out = tmp_path / "started"
    quick = ["--backbone", desk.tiny_t5, "--batch-size", "12", "--epochs", "1", "--no-report", "--no-baselines"]
    auto = ["--threads", "1", "--start", "auto", "--start-from", folder, "--start-steps", "4", "--limit", "36"]
    words = ["train", desk.task, *quick, *auto, "--num-sampled-tokens", "32", "--precision", "fp32", "--out", out]
    done = superpos(*words)
    assert done.code == 0, done.stderr
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    if scores[0] > ranking["own_score"]:
        assert f"starting from {ranking['starts'][0]['digest']}" in done.stderr
        assert (run["arguments"]["method"], run["arguments"]["sources"]) == ("spot", [str(out / "start")])
    else:
        assert "starting without a source" in done.stderr
        assert run["arguments"]["method"] == "superpos"
    shutil.rmtree(folder)
    (out / "result.json").unlink()
    resumed = superpos(*words, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert "trying" not in resumed.stderr, "the start was chosen before"
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["arguments"] == run["arguments"]


def test_the_tasks_of_a_registry_are_ranked_by_their_production_versions(desk: Desk, tmp_path: Path) -> None:
    registry = tmp_path / "registry.sqlite"
    assert superpos("push", desk.run, "known", "--to", registry).code == 0
    assert superpos("push", desk.run, "draft", "--no-alias", "--to", registry).code == 0
    own = [desk.task, "--backbone", desk.tiny_t5, "--threads", "1", "--steps", "2", "--limit", "24"]
    answer = superpos("similar", *own, "--from", registry, "--json")
    assert answer.code == 0, answer.stderr
    (start,) = json.loads(answer.stdout)["starts"]
    twice = tmp_path / "twice"
    for name in ("a", "b"):
        shutil.copytree(desk.run / "adapter", twice / name)
    copies = json.loads(superpos("similar", *own, "--from", twice, "--json").stdout)["starts"]
    assert [each["name"] for each in copies] == [str(twice / "a")], "equal adapters count once"
    assert (start["name"], start["digest"], start["trial_score"]) == ("known", desk.adapter.digest, None)


def test_adapters_that_have_seen_report_rows_are_left_out(desk: Desk, tmp_path: Path) -> None:
    """Without validation rows each seed reports other rows of the training file."""
    task = desk.task.with_name("alone.yaml")
    task.write_text(desk.task.read_text(encoding="utf-8").replace("  validation: validation.jsonl\n", ""))
    runs = tmp_path / "runs"
    quick = ["--backbone", desk.tiny_t5, *SIZES, "--num-sampled-tokens", "32", "--max-steps", "2", "--no-report"]
    trained = superpos(
        "train",
        task,
        *quick,
        "--readout",
        "words",
        "--no-baselines",
        "--seeds",
        "2",
        "--out",
        runs,
        "--precision",
        "fp32",
    )
    assert trained.code == 0, trained.stderr
    foreign = runs / "foreign"
    foreign.mkdir()
    (foreign / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    own = [task, "--backbone", desk.tiny_t5, "--threads", "1", "--steps", "2"]
    answer = superpos("similar", *own, "--from", runs, "--json")
    assert answer.code == 0, answer.stderr
    (start,) = json.loads(answer.stdout)["starts"]
    assert start["name"].endswith("seed0")
    assert f"left out {foreign}: files: got adapter_config.json" in answer.stderr
    assert "report rows of --seed 0 trained it or chose its best step" in answer.stderr
    none = superpos("similar", *own, "--from", Path(start["name"]), "--seed", "1").refusal()
    assert none == "all 1 adapters have seen report rows of --seed 1; give the seed they have"

    auto = ["train", task, *quick, "--start", "auto", "--start-from", runs, "--out", tmp_path / "started"]
    assert "others of --seeds 2 report, since the task file names no validation rows" in (
        superpos(*auto, "--seeds", "2").refusal()
    )
    assert superpos(*auto, "--split", "kfold").refusal() == (
        "--start auto would choose on rows that --split kfold reports; use --split honest"
    )


def test_what_a_library_or_a_start_cannot_do_is_refused(desk: Desk, tmp_path: Path) -> None:
    options, _ = library(desk, tmp_path, "--methods", "simple,attempt")
    assert superpos("library", "train", *options).refusal() == (
        "--methods: 'attempt' is not one of simple, superpos, residual, dpt, which start from tokens"
    )
    own = ["--backbone", desk.tiny_t5]
    empty = superpos("library", "share", tmp_path, *own, "--out", tmp_path / "shared").refusal()
    assert empty.startswith(f"{tmp_path} holds no finished run with label words")
    none = superpos("similar", desk.task, *own, "--from", tmp_path).refusal()
    assert "has no adapter for backbone" in none
    auto = ["train", desk.task, *own, "--start", "auto"]
    assert "name it with --out" in superpos(*auto).refusal()
    out = ("--out", tmp_path / "run")
    assert superpos(*auto, *out, "--method", "simple").refusal() == (
        "--start auto sets --method spot and its --source; leave them out"
    )
    assert superpos(*auto, *out, "--preset", "hu/lora").refusal() == (
        "--start auto decides the method, and so does --preset hu/lora; leave one of them out"
    )
    unused = superpos(*auto, *out, "--start-from", desk.run, "--rank", "4").refusal()
    assert unused.startswith("rank is 4, but method 'superpos' does not use it")
