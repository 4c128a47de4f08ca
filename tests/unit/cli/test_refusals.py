"""What the `superpos` command says, in one line, when it refuses."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from support.cli import QUICK, TASK, Desk, superpos
from support.disk import full_disk

pytestmark = pytest.mark.usefixtures("one_thread")


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
    "a folder with a run": Bad("train {task} --backbone {tiny} --out {run}", ("{run} already holds a run", "--out")),
    "several runs in the folder of one": Bad(
        "train {task} --backbone {tiny} --out {run} --readout soft,pooled",
        ("{run} holds a run, expected a folder for several", "--out"),
    ),
    "an out that is a file": Bad("train {task} --out {tmp}/file", ("run folder {tmp}/file",), {"file": ""}),
    "a device of no such kind": Bad(TRAIN + " --device quantum", ("quantum",)),
    "push of no folder": Bad("push {tmp}/none topic --to {tmp}/r.sqlite", ("{tmp}/none",)),
    "push of an empty folder": Bad("push {tmp} topic --to {tmp}/r.sqlite", ("adapter_config.json",)),
    "push of a run without an adapter": Bad(
        "push {tmp} topic --to {tmp}/r.sqlite",
        ("{tmp}: got a run of method 'full': it trains a model of its own", "expected a method that leaves an adapter"),
        {"run.json": '{"arguments": {"method": "full"}}'},
    ),
    "push of a run that is not finished": Bad(
        "push {tmp} topic --to {tmp}/r.sqlite",
        ("{tmp}: got an unfinished run", "--resume"),
        {"run.json": '{"arguments": {"method": "simple"}}'},
    ),
    "push of a folder of runs": Bad("push {desk} topic --to {tmp}/r.sqlite", ("a folder of 1 runs", "as {run}")),
    "evaluate of an empty folder": Bad(
        "evaluate {tmp} {task} --backbone {tiny}", ("{tmp}: got a folder without an adapter", "adapter_config.json")
    ),
    "an option of another method": Bad(
        TRAIN + " --rank 4", ("rank is 4, but method 'superpos' does not use it", "only dpt")
    ),
    "a policy for what is not generated": Bad(
        "evaluate {run} {task} --invalid zero_run", ("--invalid zero_run", "--protocol greedy")
    ),
    "push under a bad name": Bad("push {run} Topic! --to {tmp}/r.sqlite", ("task 'Topic!'",)),
    "push with a bad alias": Bad("push {run} topic --to {tmp}/r.sqlite --alias 7", ("alias '7'",)),
    "alias and no alias": Bad("push {run} topic --alias a --no-alias --to {tmp}/r.sqlite", ("--no-alias",)),
    "evaluate of no folder": Bad("evaluate {tmp}/none {task} --backbone {tiny}", ("{tmp}/none",)),
    "evaluate without rows": Bad(
        "evaluate {run} {tmp}/t.yaml --backbone {tiny}",
        ("task 'topic' has no validation file", "--rows train"),
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
    "push to another scheme": Bad("push {run} topic --to ftp://127.0.0.1/x", ("'ftp://…'",)),
    "list from another scheme": Bad("list --from mysql://127.0.0.1", ("'mysql://…'",)),
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
@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_fills_up_under_a_run_is_told_in_one_line(desk: Desk, tmp_path: Path, processes: int) -> None:
    given = [desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *QUICK]
    several = ["--seeds", "2", "--processes", processes] if processes > 1 else []
    with full_disk(max_bytes=1_000):
        answer = superpos("train", *given, *several)
    # several processes share a file of weights, which this machine may not have yet
    assert re.search(r"(run\.json|\.safetensors): .*File too large", answer.refusal())


def test_what_cannot_be_written_or_read_is_told_in_one_line_with_its_name(desk: Desk, tmp_path: Path) -> None:
    file = desk.write("a file", "")
    report = superpos("report", desk.run, "--out", file / "page.html").refusal()
    assert report.startswith(f"{file}: ")
    init = superpos("task", "init", desk.folder / "train.jsonl", "--backbone", desk.tiny_t5, "--out", file / "t.yaml")
    assert init.refusal().startswith(f"{file}")
    (tmp_path / "train.jsonl").symlink_to("/proc/self/mem")
    checked = superpos("task", "init", tmp_path / "train.jsonl", "--backbone", desk.tiny_t5, "--out", tmp_path / "t")
    assert f"{tmp_path / 'train.jsonl'}: a link to '/proc/self/mem', which is not followed" in checked.refusal()
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")  # opens, and cannot be read
    checked = superpos("task", "init", tmp_path / "rows.parquet", "--backbone", desk.tiny_t5, "--out", tmp_path / "t")
    assert f"{tmp_path / 'rows.parquet'}: not a readable Parquet file" in checked.refusal()


def test_a_variable_that_nobody_knows_refuses_the_start(desk: Desk) -> None:
    words = ("serve", "--backbone", desk.tiny_t5)
    message = superpos(*words, SUPERPOS_REQUIRE_KEY="true").refusal()
    assert "unknown environment variable SUPERPOS_REQUIRE_KEY: did you mean SUPERPOS_REQUIRE_KEYS?" in message
    assert "unknown environment variable SUPERPOS_ROWS" in superpos(*words, SUPERPOS_ROWS="/rows").refusal()
    message = superpos("classify", "sst2", "x", SUPERPOS_SERVR="http://127.0.0.1:1").refusal()
    assert "did you mean SUPERPOS_SERVER?" in message
    # of a task file, which may name any variable
    own = superpos("data", "check", desk.folder / "none.yaml", SUPERPOS_ROWS="/rows").refusal()
    assert "SUPERPOS_ROWS" not in own
    assert superpos("serve", "--help", SUPERPOS_REQUIRE_KEY="true").code == 0
