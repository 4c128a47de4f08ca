"""The commands of the documents: those that take seconds are run here, all by `python -m verification.documents`."""

import shutil
from pathlib import Path

import pytest

from verification.documents import ROOT, TUTORIAL, Shown, console_commands, difference, run, shown_file

DOCUMENT = TUTORIAL.read_text(encoding="utf-8")
QUICK = [shown for shown in console_commands(DOCUMENT) if not shown.figures_vary]


def test_the_tutorial_shows_its_commands_in_their_order() -> None:
    names = [shown.command.removeprefix("superpos ").split()[0] for shown in console_commands(DOCUMENT)]
    assert names == [
        *("task", "data", "train", "classify", "tenant", "score"),
        *("feedback", "curl", "feedback", "job", "show", "promote", "history"),
    ]
    assert [shown.command.split()[1] for shown in QUICK] == ["task", "data"]


@pytest.mark.slow
def test_commands_print_and_write_what_the_tutorial_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for shown in QUICK:
        assert run(shown, tmp_path, {}) == [], shown.command
    written = (tmp_path / "tickets.yaml").read_text(encoding="utf-8")
    assert shown_file(DOCUMENT, QUICK[0].command) == written


@pytest.mark.parametrize(
    ("expected", "found", "vary", "same"),
    [
        ("a  b\n", "a b", False, True),
        ("┏━━┓\n┃ a ┃", "┏━━━━┓\n┃ a    ┃", False, True),
        ("first\n…\nlast", "first\nmore\nand more\nlast", False, True),
        ("first\n…", "first\nmore", False, True),
        ("score 0.91 sha256:ab", "score 0.90 sha256:cd", True, True),
        ("score 0.91", "score 0.90", False, False),
        ("score 0.91", "accuracy 0.91", True, False),
        ("first", "first\nsecond", False, False),
        ("first\nsecond", "first", False, False),
        ("first\n…\nlast", "first\nmore", False, False),
    ],
)
def test_outputs_agree_only_if_they_are_the_same(expected: str, found: str, *, vary: bool, same: bool) -> None:
    assert (difference(expected, found, figures_vary=vary) == []) is same


def test_a_command_that_prints_something_else_is_found(tmp_path: Path) -> None:
    assert run(Shown("superpos --version", "superpos 0.0.0\n", figures_vary=False), tmp_path, {})
