"""The prose check: what it reads, and that each of its rules finds the sentence that breaks it."""

import tomllib
from pathlib import Path

import pytest

from scripts.prose import RULES, check_file, read_rules

ENTRIES = tomllib.loads(RULES.read_text(encoding="utf-8"))["rule"]
PLACES = {
    "docstring": 'def f() -> None:\n    """{}"""\n',
    "comment": "a = 1\n# {}\n",
    "message": 'def f() -> None:\n    raise ValueError("{}")\n',
    "document": "# Title\n\n{}\n",
    "string": 'A = print("{}")\n',
}


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["example"] for entry in ENTRIES])
def test_each_rule_finds_its_example_wherever_the_rule_applies(entry: dict[str, object], tmp_path: Path) -> None:
    for kind in entry.get("kinds", list(PLACES)):  # type: ignore[attr-defined]
        file = tmp_path / ("planted.md" if kind == "document" else "planted.py")
        file.write_text(PLACES[kind].format(entry["example"]), encoding="utf-8")
        assert entry["instead"] in [finding.instead for finding in check_file(file, read_rules())], kind


def test_code_fences_code_spans_and_strings_that_are_data_are_not_read(tmp_path: Path) -> None:
    document, module = tmp_path / "a.md", tmp_path / "a.py"
    document.write_text("```\nnobody told it\n```\n\nA `nobody told it` span.\n", encoding="utf-8")
    module.write_text('"""A `ledger`."""\nNAME = "told nobody"\n', encoding="utf-8")
    assert [check_file(path, read_rules()) for path in (document, module)] == [[], []]


def test_a_phrase_over_two_lines_is_found_on_its_first(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('x = 1\n# The server comes\n# back later.\n"""A run\n\nthat goes\non.\n"""\n', encoding="utf-8")
    assert [(finding.line, finding.phrase) for finding in check_file(file, read_rules())] == [
        (2, "comes # back"),
        (6, "goes on"),
    ]


def test_help_texts_f_strings_and_log_events_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        'Option(help="Told to nobody.")\nlog.warning("went on without it")\nraise KeyError(f"{a} is none")\n',
        encoding="utf-8",
    )
    assert [finding.line for finding in check_file(file, read_rules())] == [1, 1, 2, 3]


def test_allowed_phrases_are_no_findings(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("There is no such key, it is no longer needed; tell the two apart. A stand-in.\n", encoding="utf-8")
    assert check_file(file, read_rules()) == []
