"""The `superpos` command: its help, a task's way from rows to a registry, and what it says when it refuses."""

import dataclasses
import gc
import json
import os
import random
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from support import RunningServer, make_t5
from transformers import T5ForConditionalGeneration
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import adapters
import cli
from adapters import DEFAULT_TENANT, PromptAdapter, Ref, SqliteRegistry
from adapters.files import CARD, MANIFEST, from_files, read_folder, to_files, write_folder
from cli.main import app

CONSOLE_SCRIPT = Path(sys.executable).with_name("superpos")
WORDS = ["gripping", "film", "the", "quick", "brown", "fox", "over", "lazy", "dog", "city"]
TASK = """\
name: topic
template: "text: {text}"
labels: {sports: sports, business: business}
max_tokens: 32
data:
  train: train.jsonl
  validation: validation.jsonl
"""
QUICK = [
    *("--epochs", "4", "--batch-size", "12", "--lr", "0.05"),
    *("--num-virtual-tokens", "6", "--num-sampled-tokens", "32", "--threads", "1"),
]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Standard output with its layout taken out."""
        return " ".join(self.stdout.split())

    def refusal(self) -> str:
        """The one line of a refusal, and nothing but a refusal."""
        assert self.code == 1, self.stderr
        assert "Traceback" not in self.stderr + self.stdout
        lines = [line for line in self.stderr.splitlines() if line.startswith("superpos:")]
        assert len(lines) == 1, self.stderr
        assert self.stderr.splitlines()[-1] == lines[0]
        return lines[0].removeprefix("superpos: ")


def superpos(*arguments: object, stdin: str = "", **environment: str) -> Answer:
    """Run the command in this process; an exception that it lets through is raised here."""
    cleared = {name: None for name in os.environ if name.startswith("SUPERPOS_") and name != "SUPERPOS_CACHE_DIR"}
    result = CliRunner().invoke(
        app, [str(argument) for argument in arguments], input=stdin, env={**cleared, "COLUMNS": "200", **environment}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def superpos_process(*arguments: object, **environment: str) -> Answer:
    """Run the command as a user's shell does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
    done = subprocess.run(
        [CONSOLE_SCRIPT, *map(str, arguments)],
        env={**kept, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """`--threads` is a setting of the whole process: put it back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# --- help


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command that does something, with its words."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            assert isinstance(command, TyperCommand)
            yield (*path, name), command


ROOT = get_command(app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = dict(commands(ROOT))


def examples(command: TyperCommand) -> list[list[str]]:
    """The example lines in a command's help, as words after `superpos`."""
    lines = [line for line in (command.help or "").splitlines() if "superpos " in line]
    return [shlex.split(line[line.index("superpos ") :])[1:] for line in lines]


def test_the_command_has_the_parts_that_its_manual_names() -> None:
    words = {" ".join(path) for path in COMMANDS}
    assert words == {
        "serve",
        "train",
        "evaluate",
        "push",
        "list",
        "classify",
        "export",
        "import",
        "backbone prepare",
        "backbone show",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    answer = superpos(*path, "--help")
    assert answer.code == 0
    assert answer.stderr == ""
    shown = [line.strip() for line in answer.stdout.splitlines() if "Usage:" not in line]
    command = " ".join(("superpos", *path))
    assert any(line.removeprefix("Example: ").startswith(command) for line in shown)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_examples_of_every_command_are_ones_that_it_takes(path: tuple[str, ...]) -> None:
    given = examples(COMMANDS[path])
    assert given
    for words in given:
        assert tuple(words[: len(path)]) == path
        COMMANDS[path].make_context(" ".join(path), words[len(path) :])


def test_help_of_the_whole_and_of_its_group_says_where_to_begin() -> None:
    whole = superpos("--help")
    assert whole.code == 0
    assert "superpos serve" in whole.text
    group = superpos("backbone", "--help")
    assert group.code == 0
    assert {"prepare", "show"} <= set(group.text.split())


def test_help_needs_no_slow_import() -> None:
    code = "import sys, cli.main; print([name for name in ('torch', 'transformers', 'fastapi') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- whose `adapters` it is


def test_the_adapters_package_that_is_imported_is_ours() -> None:
    assert adapters.SUPERPOS
    assert adapters.__file__ is not None
    assert cli.__file__ is not None
    assert Path(adapters.__file__).parent.parent == Path(cli.__file__).parent.parent


def test_another_package_of_that_name_is_refused_by_its_place(tmp_path: Path) -> None:
    other = tmp_path / "adapters" / "__init__.py"
    other.parent.mkdir()
    other.write_text("__version__ = '1.0.0'\n")
    answer = superpos_process("list", PYTHONPATH=str(tmp_path))
    message = answer.refusal()
    assert str(other) in message
    assert "pip uninstall adapters" in message
    assert answer.stdout == ""


# --- a task's way


def rows(count: int, *, seed: int) -> str:
    """JSON lines whose label stands among a few other words."""
    drawn = random.Random(seed)
    lines = []
    for _ in range(count):
        label = drawn.choice(["sports", "business"])
        words = drawn.sample(WORDS, 2)
        words.insert(drawn.randrange(3), label)
        lines.append(json.dumps({"text": " ".join(words), "label": label}) + "\n")
    return "".join(lines)


@dataclasses.dataclass(frozen=True)
class Desk:
    """A folder with a task, its rows and a run of it."""

    folder: Path
    tiny_t5: Path
    trained: Answer

    @property
    def task(self) -> Path:
        return self.folder / "topic.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def adapter(self) -> PromptAdapter:
        return from_files(read_folder(self.run / "adapter"))

    def write(self, name: str, text: str) -> Path:
        """A file beside the task's."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return self.folder / name


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    for name, text in (
        ("topic.yaml", TASK),
        ("train.jsonl", rows(120, seed=1)),
        ("validation.jsonl", rows(60, seed=2)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    trained = superpos("train", folder / "topic.yaml", "--backbone", tiny_t5, "--out", folder / "run", *QUICK)
    return Desk(folder, tiny_t5, trained)


def test_training_prints_its_figures_and_leaves_a_run_folder(desk: Desk) -> None:
    assert desk.trained.code == 0, desk.trained.stderr
    assert desk.trained.stdout.splitlines()[-1] == f"{desk.run / 'adapter'} {desk.adapter.digest}"
    metrics = desk.adapter.manifest.provenance.metrics
    assert metrics["report_accuracy"] >= 0.9
    for figure in ("untrained_accuracy", "report_accuracy", "report_macro_f1", "report_loss"):
        assert f"{metrics[figure]:.4f}" in desk.trained.text
    assert "split honest" in desk.trained.text
    assert {path.name for path in desk.run.iterdir()} == {"adapter", "metrics.jsonl", "run.json"}
    told = [line for line in desk.trained.stderr.splitlines() if "selection accuracy" in line]
    assert len(told) == 5
    assert told[0].startswith("untrained")
    assert told[4].startswith("epoch   4")


def test_evaluating_a_run_gives_the_figures_of_its_report(desk: Desk) -> None:
    metrics = desk.adapter.manifest.provenance.metrics
    for folder in (desk.run, desk.run / "adapter"):
        answer = superpos("evaluate", folder, desk.task, "--backbone", desk.tiny_t5)
        assert answer.code == 0
        assert "topic: validation.jsonl" in answer.text
        assert desk.adapter.digest[:19] in answer.text
        for figure in ("report_accuracy", "report_macro_f1", "report_loss"):
            assert f"{metrics[figure]:.4f}" in answer.text
    training_rows = superpos("evaluate", desk.run, desk.task, "--rows", "train", "--backbone", desk.tiny_t5)
    assert "topic: train.jsonl" in training_rows.text


def test_an_adapter_goes_from_registry_to_folder_to_registry_with_its_digest(desk: Desk, tmp_path: Path) -> None:
    digest, first, second = desk.adapter.digest, tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    pushed = superpos("push", desk.run, "topic", "--to", first)
    assert (pushed.code, pushed.stdout) == (0, f"published topic@1 {digest}\n")

    listed = superpos("list", "--from", first)
    assert listed.code == 0
    for cell in ("topic", "1", "production", digest[:19], "cli"):
        assert cell in listed.text.split()

    exported = superpos("export", "topic", tmp_path / "exported", "--from", first)
    assert (exported.code, exported.stdout) == (0, f"{tmp_path / 'exported'}: topic, {digest}\n")
    assert read_folder(tmp_path / "exported") == read_folder(desk.run / "adapter")
    assert (tmp_path / "exported" / CARD).read_text(encoding="utf-8").startswith("---")

    imported = superpos("import", tmp_path / "exported", "other", "--to", second, "--alias", "canary")
    assert (imported.code, imported.stdout) == (0, f"published other@1 {digest}\n")
    registry = SqliteRegistry(second)
    assert from_files(registry.get(registry.resolve(DEFAULT_TENANT, Ref.parse("other@canary")).digest)).digest == digest
    assert registry.describe(DEFAULT_TENANT, "other").aliases == {"canary": 1}


def test_a_listing_that_is_piped_cuts_no_name_and_no_digest(desk: Desk, tmp_path: Path) -> None:
    name = "a-task-with-a-name-longer-than-most-but-allowed"
    superpos("push", desk.run, name, "--to", tmp_path / "registry.sqlite")
    listed = superpos("list", "--from", tmp_path / "registry.sqlite", COLUMNS="80")
    assert name in listed.stdout
    assert desk.adapter.digest[:19] in listed.stdout


def test_pushing_what_is_there_already_changes_nothing_and_says_so(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "registry.sqlite"
    superpos("push", desk.run, "topic", "--to", place)
    before = SqliteRegistry(place).changes()
    again = superpos("push", desk.run, "topic", "--to", place)
    assert (again.code, again.stdout) == (0, f"already there, nothing changed: topic@1 {desk.adapter.digest}\n")
    assert SqliteRegistry(place).changes() == before


def test_a_push_without_an_alias_leaves_production_where_it_is(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "registry.sqlite"
    superpos("push", desk.run, "topic", "--to", place)
    newer = PromptAdapter(desk.adapter.prompt * np.float32(1.5), desk.adapter.manifest)
    write_folder(tmp_path / "newer", to_files(newer))
    answer = superpos("push", tmp_path / "newer", "topic", "--to", place, "--no-alias")
    assert answer.stdout == f"published topic@2 {newer.digest}\n"
    assert SqliteRegistry(place).describe(DEFAULT_TENANT, "topic").aliases == {"production": 1}
    two = superpos("push", desk.run, "also", "--to", place, "--alias", "canary", "--alias", "blue")
    assert two.code == 0
    assert SqliteRegistry(place).describe(DEFAULT_TENANT, "also").aliases == {"canary": 1, "blue": 1}


def test_training_can_publish_its_result(desk: Desk, tmp_path: Path) -> None:
    place, out = tmp_path / "registry.sqlite", tmp_path / "run"
    answer = superpos(
        *("train", desk.task, "--backbone", desk.tiny_t5, "--out", out, "--publish", place, "--limit", "24"),
        *(*QUICK, "--epochs", "1"),
    )
    digest = from_files(read_folder(out / "adapter")).digest
    assert answer.code == 0, answer.stderr
    assert answer.stdout.endswith(f"published topic@1 {digest}\n")


def test_a_result_that_cannot_be_published_is_kept(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answer = superpos(
        *("train", desk.task, "--backbone", desk.tiny_t5, "--out", out, "--publish", "http://127.0.0.1:9"),
        *(*QUICK, "--epochs", "1", "--limit", "24"),
    )
    assert answer.refusal().startswith("cannot reach http://127.0.0.1:9")
    assert from_files(read_folder(out / "adapter")).digest in answer.stdout


def test_runs_without_a_folder_named_get_one_each(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", desk.task, "--backbone", desk.tiny_t5, *QUICK, "--epochs", "1", "--limit", "12", "--seed", "3"]
    assert [superpos(*words).code, superpos(*words).code] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["topic-superpos-seed3", "topic-superpos-seed3-2"]


def test_the_backbones_identity_is_shown_as_json(desk: Desk) -> None:
    answer = superpos("backbone", "show", "--source", desk.tiny_t5)
    shown = json.loads(answer.stdout)
    assert shown["id"] == str(desk.tiny_t5)
    assert shown["fingerprint"] == desk.adapter.manifest.backbone.fingerprint
    assert shown["width"] == 32


# --- with a server


def test_a_server_takes_gives_and_answers_as_a_registrys_file_does(
    desk: Desk, tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    url, digest = serve().url, desk.adapter.digest
    assert superpos("push", desk.run, "topic", "--to", url).stdout == f"published topic@1 {digest}\n"
    again = superpos("push", desk.run, "topic", SUPERPOS_SERVER=url)
    assert again.stdout == f"already there, nothing changed: topic@1 {digest}\n"
    listed = superpos("list", "--from", url).text.split()
    assert {"topic", "1", "production", digest[:19]} <= set(listed)

    superpos("export", f"topic@{digest[:19]}", tmp_path / "exported", "--from", url)
    assert read_folder(tmp_path / "exported") == read_folder(desk.run / "adapter")

    table = superpos("classify", "topic", "the sports city", "lazy business dog", "--server", url)
    assert table.code == 0
    assert f"topic@1 {digest[:19]}" in table.text
    lines = [line for line in table.stdout.splitlines() if "city" in line or "dog" in line]
    assert ["sports" in lines[0], "business" in lines[1]] == [True, True]

    piped = superpos(
        "classify", "topic@1", "--json", "--server", url, stdin='the sports city\n{"text": "lazy business dog"}\n'
    )
    answer = json.loads(piped.stdout)
    assert answer["adapter"] == digest
    assert [prediction["label"] for prediction in answer["predictions"]] == ["sports", "business"]

    assert "404" in superpos("classify", "nothing", "text", "--server", url).refusal()
    assert "no task 'nothing'" in superpos("export", "nothing", tmp_path / "none", "--from", url).refusal()
    assert "topic@9" in superpos("export", "topic@9", tmp_path / "none", "--from", url).refusal()
    assert not (tmp_path / "none").exists()
    gc.collect()  # a connection left open would warn here


# --- PEFT's own folders

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
    registry = SqliteRegistry(place)
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


# --- refusals


@dataclasses.dataclass(frozen=True)
class Bad:
    """A command that must be refused, and what its line must hold."""

    words: str
    expected: tuple[str, ...]
    """In words and here `{task}`, `{run}`, `{tiny}`, `{desk}` and `{tmp}` stand for paths."""
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """What lies in `{tmp}`, by name."""


BERT = json.dumps({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8})
BAD_ROW = '{"text": "a", "label": "sports"}\n{"text": "b", "label": "world"}\n'
TRAIN = "train {task} --backbone {tiny} --out {tmp}/out"

BADS = {
    "missing task file": Bad("train {tmp}/none.yaml --out {tmp}/out", ("{tmp}/none.yaml", "cannot be read")),
    "broken task file": Bad("train {tmp}/t.yaml --out {tmp}/out", ("{tmp}/t.yaml: not YAML",), {"t.yaml": "a: [\n"}),
    "wrong task file": Bad(
        "train {tmp}/t.yaml", ("{tmp}/t.yaml: max_tokens:",), {"t.yaml": TASK.replace("32", "many")}
    ),
    "variable not set": Bad(
        "train {tmp}/t.yaml",
        ("{tmp}/t.yaml: data:", "NOWHERE"),
        {"t.yaml": TASK.replace("train.jsonl", "${NOWHERE}/x.csv")},
    ),
    "broken data row": Bad(
        "train {tmp}/t.yaml --backbone {tiny} --out {tmp}/out",
        ("{tmp}/train.jsonl: line 2: field 'label' is 'world'",),
        {"t.yaml": TASK, "train.jsonl": BAD_ROW},
    ),
    "missing data file": Bad(
        "train {tmp}/t.yaml --backbone {tiny} --out {tmp}/out", ("{tmp}/train.jsonl: no such file",), {"t.yaml": TASK}
    ),
    "labels that are one": Bad(
        "train {tmp}/t.yaml --backbone {tiny} --out {tmp}/out",
        ("label words",),
        {"t.yaml": TASK.replace("sports: sports, business: business", "a: 中, b: 二")},
    ),
    "no virtual tokens": Bad(TRAIN + " --num-virtual-tokens 0", ("num_virtual_tokens is 0",)),
    "more sampled tokens than the vocabulary": Bad(TRAIN + " --num-sampled-tokens 5000", ("5000",)),
    "a seed below 0": Bad(TRAIN + " --num-sampled-tokens 8 --seed -1", ("seed is -1",)),
    "a learning rate of 0": Bad(TRAIN + " --lr 0", ("lr is 0",)),
    "a folder with a run": Bad("train {task} --backbone {tiny} --out {run}", ("{run} holds a run already", "--out")),
    "an out that is a file": Bad("train {task} --out {tmp}/file", ("run folder {tmp}/file",), {"file": ""}),
    "a device of no such kind": Bad(TRAIN + " --device quantum", ("quantum",)),
    "push of no folder": Bad("push {tmp}/none topic --to {tmp}/r.sqlite", ("{tmp}/none",)),
    "push of an empty folder": Bad("push {tmp} topic --to {tmp}/r.sqlite", ("adapter_config.json",)),
    "push under a bad name": Bad("push {run} Topic! --to {tmp}/r.sqlite", ("task 'Topic!'",)),
    "push with a bad alias": Bad("push {run} topic --to {tmp}/r.sqlite --alias 7", ("alias '7'",)),
    "alias and no alias": Bad("push {run} topic --alias a --no-alias --to {tmp}/r.sqlite", ("--no-alias",)),
    "evaluate of no folder": Bad("evaluate {tmp}/none {task} --backbone {tiny}", ("{tmp}/none",)),
    "evaluate without rows": Bad(
        "evaluate {run} {tmp}/t.yaml --backbone {tiny}",
        ("{tmp}/t.yaml names no validation file", "--rows train"),
        {"t.yaml": TASK.replace("  validation: validation.jsonl\n", "")},
    ),
    "import of no folder": Bad("import {tmp}/none topic --to {tmp}/r.sqlite", ("{tmp}/none",)),
    "export of an unknown task": Bad("export other {tmp}/out --from {desk}/r.sqlite", ("other",)),
    "export of an unknown version": Bad("export topic@7 {tmp}/out --from {desk}/r.sqlite", ("topic@7",)),
    "export of an unknown alias": Bad("export topic@blue {tmp}/out --from {desk}/r.sqlite", ("topic@blue",)),
    "export of no ref": Bad("export topic@Up! {tmp}/out --from {desk}/r.sqlite", ("ref 'topic@Up!'",)),
    "export over files": Bad(
        "export topic {tmp} --from {desk}/r.sqlite", ("{tmp} is not empty",), {"mine.txt": "keep"}
    ),
    "export onto a file": Bad("export topic {tmp}/file --from {desk}/r.sqlite", ("{tmp}/file",), {"file": ""}),
    "export below a file": Bad("export topic {tmp}/file/x --from {desk}/r.sqlite", ("{tmp}/file",), {"file": ""}),
    "a registry that is text": Bad("list --from {tmp}/file", ("registry {tmp}/file", "database"), {"file": "x" * 999}),
    "a registry that is a folder": Bad("list --from {tmp}", ("registry {tmp}",)),
    "a registry below a file": Bad("list --from {tmp}/file/r.sqlite", ("{tmp}/file",), {"file": ""}),
    "list of no server": Bad("list --from http://127.0.0.1:9", ("cannot reach http://127.0.0.1:9", "superpos serve")),
    "push to no server": Bad("push {run} topic --to http://127.0.0.1:9", ("cannot reach http://127.0.0.1:9",)),
    "export from no server": Bad("export topic {tmp}/out --from http://127.0.0.1:9", ("cannot reach",)),
    "classify with no server": Bad("classify topic text --server http://127.0.0.1:9", ("cannot reach",)),
    "classify of nothing": Bad("classify topic", ("nothing to classify",)),
    "push to another scheme": Bad("push {run} topic --to ftp://127.0.0.1/x", ("'ftp://127.0.0.1/x'",)),
    "list from another scheme": Bad("list --from redis://127.0.0.1", ("'redis://127.0.0.1'",)),
    "classify by another scheme": Bad("classify topic text --server ftp://127.0.0.1", ("ftp://127.0.0.1",)),
    "an address with no port number": Bad("list --from http://127.0.0.1:http", ("127.0.0.1:http",)),
    "not a T5": Bad("backbone show --source {tmp}", ("'bert'", "'t5'"), {"config.json": BERT}),
    "training on no T5": Bad(
        "train {task} --backbone {tmp} --out {tmp}/out", ("'bert'", "'t5'"), {"config.json": BERT}
    ),
    "missing backbone": Bad("backbone show --source {tmp}/none", ("{tmp}/none",)),
    "an empty backbone": Bad("backbone show --source {tmp}", ("{tmp}",)),
    "a cache that cannot be written": Bad(
        "backbone prepare embedded --cache-dir {tmp}/file/cache",
        ("cannot write the embedded backbone to {tmp}/file/cache",),
        {"file": ""},
    ),
    "every address": Bad("serve --host 0.0.0.0 --backbone {tiny}", ("setting host is '0.0.0.0'", "loopback")),
    "an outside name": Bad("serve --host example.org --backbone {tiny}", ("setting host is 'example.org'",)),
    "no such port": Bad("serve --port 99999 --backbone {tiny}", ("setting port is 99999",)),
    "no such log format": Bad("serve --log-format xml --backbone {tiny}", ("setting log_format is 'xml'",)),
}


@pytest.mark.parametrize("bad", BADS.values(), ids=BADS)
def test_what_cannot_be_done_is_refused_in_one_line(desk: Desk, tmp_path: Path, bad: Bad) -> None:
    if not (desk.folder / "r.sqlite").exists():
        superpos("push", desk.run, "topic", "--to", desk.folder / "r.sqlite")
    places = {"task": desk.task, "run": desk.run, "tiny": desk.tiny_t5, "desk": desk.folder, "tmp": tmp_path}
    for name, text in bad.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    message = superpos(*(word.format(**places) for word in bad.words.split())).refusal()
    for part in bad.expected:
        assert part.format(**places) in message
    for name, text in bad.files.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert not (tmp_path / "out" / "adapter").exists()


def test_a_limit_in_the_environment_is_checked_like_an_option(desk: Desk) -> None:
    message = superpos("serve", "--backbone", desk.tiny_t5, SUPERPOS_MAX_BATCH_TOKENS="many").refusal()
    assert message.startswith("setting max_batch_tokens is 'many'")


def test_a_registry_that_is_not_there_is_refused_and_not_made_by_reading(tmp_path: Path) -> None:
    place = tmp_path / "no-such.sqlite"
    for words in (("list",), ("export", "topic", tmp_path / "out")):
        assert str(place) in superpos(*words, "--from", place).refusal()
        assert not place.exists()


def test_an_adapter_for_another_backbone_is_not_evaluated(desk: Desk, tiny_t5_v10: Path) -> None:
    message = superpos("evaluate", desk.run, desk.task, "--backbone", tiny_t5_v10).refusal()
    assert message.startswith("backbone fingerprint")


def test_a_damaged_backbone_is_refused(desk: Desk, tmp_path: Path) -> None:
    for path in desk.tiny_t5.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    assert str(tmp_path) in superpos("backbone", "show", "--source", tmp_path).refusal()


def test_a_refused_run_leaves_no_folder_behind(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    superpos("train", desk.task, "--backbone", tmp_path / "none").refusal()
    assert list(tmp_path.rglob("*-seed0*")) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_cuda_device_that_is_not_there_is_refused(desk: Desk, tmp_path: Path) -> None:
    words = ["train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", "--device", "cuda", *QUICK]
    assert "cuda" in superpos(*words).refusal()


# --- in a process of its own


def test_a_refusal_in_a_shell_is_one_line_and_status_1(tmp_path: Path) -> None:
    answer = superpos_process("train", tmp_path / "none.yaml")
    assert answer.refusal().startswith(f"{tmp_path / 'none.yaml'}: cannot be read")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


def test_a_port_in_use_is_refused_before_the_registry_is_made(desk: Desk, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["--port", port, "--backbone", desk.tiny_t5, "--registry", tmp_path / "registry.sqlite"]
        message = superpos_process("serve", *words).refusal()
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert "--port" in message
    assert not (tmp_path / "registry.sqlite").exists()
