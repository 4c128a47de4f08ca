"""The `superpos` command's help: every command has it, with examples that hold."""

import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.cli import superpos
from typer.core import TyperCommand, TyperGroup

from cli.main import COMMANDS as ENTRIES
from cli.main import load_command


def commands(command: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command that does something, with its words."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        assert isinstance(command, TyperCommand)
        yield path, command


COMMANDS = {path: command for name in ENTRIES for path, command in commands(load_command(name), (name,))}


def examples(command: TyperCommand) -> list[list[str]]:
    """The example lines in a command's help, as words after `superpos`."""
    lines = [line for line in (command.help or "").splitlines() if "superpos " in line]
    return [shlex.split(line[line.index("superpos ") :])[1:] for line in lines]


def test_the_command_has_the_parts_that_its_manual_names() -> None:
    words = {" ".join(path) for path in COMMANDS}
    assert words == {
        "serve",
        "ray serve",
        "train",
        "score",
        "size",
        "sweep",
        "show",
        "delete",
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
        "library train",
        "library share",
        "library subspace",
        "similar",
        "paper table1",
        "paper table2",
        "paper table3",
        "paper relatives",
        "paper fig2",
        "paper results",
        "paper restore",
        "paper render",
        "backbone prepare",
        "backbone show",
        "registry copy",
        "trainer",
        "job submit",
        "job list",
        "job show",
        "job watch",
        "job cancel",
        "job delete",
        "feedback list",
        "feedback export",
        "feedback delete",
        "tenant create",
        "tenant update",
        "tenant list",
        "tenant delete",
        "key create",
        "key list",
        "key update",
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


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_of_commands_describes_each_as_its_own_help_does(name: str) -> None:
    assert (load_command(name).help or "").startswith(ENTRIES[name][2].removesuffix("."))


@pytest.mark.parametrize(
    ("code", "slow"),
    [
        ("import cli.main", ("torch", "transformers", "fastapi", "pydantic", "numpy")),
        ("from cli.main import *; [load_command(name) for name in COMMANDS]", ("torch", "transformers", "fastapi")),
    ],
    ids=["of the whole", "of every command"],
)
@pytest.mark.slow
def test_help_needs_no_slow_import(code: str, slow: tuple[str, ...]) -> None:
    code = f"import sys; {code}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
