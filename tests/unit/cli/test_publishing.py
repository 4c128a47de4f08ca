"""`--publish`: the place is asked before anything is trained, and only what learned something goes there."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support.cli import QUICK, TASK, Desk, superpos

from adapters import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from cli.client.publish import publish_trained
from cli.console import CommandError
from cli.resume import without_credentials

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_run_that_learned_nothing_is_not_published_and_the_command_that_would_is_told(
    desk: Desk, tmp_path: Path
) -> None:
    registry, out = tmp_path / "registry.sqlite", tmp_path / "run"
    desk.write("alike.jsonl", '{"text": "the quick sports", "label": "sports"}\n' * 3)
    task = desk.write("alike.yaml", TASK.replace("validation.jsonl", "alike.jsonl"))
    options = ("--backbone", desk.tiny_t5, "--out", out, "--publish", registry)
    answer = superpos("train", task, *options, *QUICK)
    assert answer.refusal() == "1 of 1 tasks are not published: topic"
    told = answer.stderr.splitlines()
    assert told[-3].startswith("topic is not published: it gave every row the same answer; this would do it")
    assert not open_registry(registry).list(DEFAULT_TENANT)
    pushed = superpos(*shlex.split(told[-2])[1:])
    assert pushed.stdout.startswith("published topic@1 "), pushed.stderr


def test_an_untrained_prompt_is_not_published(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(desk.run, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "run" / "result.json").write_text(json.dumps(result | {"best_step": 0}), encoding="utf-8")
    with pytest.raises(CommandError, match="1 of 1 tasks are not published: topic"):
        publish_trained([("topic", tmp_path / "run")], str(tmp_path / "registry.sqlite"), None)
    assert "no step made its prompt better than the untrained one" in capsys.readouterr().err


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
