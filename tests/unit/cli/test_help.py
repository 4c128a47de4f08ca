"""The `superpos` command's help: every command has it, with examples that hold."""

import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.cli import superpos
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.main import app


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
        "sweep",
        "evaluate",
        "report",
        "push",
        "list",
        "alias",
        "traffic",
        "rollback",
        "promote",
        "history",
        "usage",
        "classify",
        "export",
        "import",
        "task init",
        "data check",
        "paper table1",
        "paper table2",
        "paper table3",
        "paper fig2",
        "paper results",
        "paper restore",
        "paper render",
        "backbone prepare",
        "backbone show",
        "registry copy",
        "tenant create",
        "tenant update",
        "tenant list",
        "tenant delete",
        "key create",
        "key list",
        "key rotate",
        "key revoke",
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
