"""The help of the verification programs shows each example on a line of its own."""

import importlib
import re

import pytest
from typer.testing import CliRunner

PROGRAMS = ("verification.artefacts", "verification.attack.__main__", "verification.conformance",
            "verification.isolation", "verification.upload_fuzz.__main__")  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_help_keeps_the_layout_of_its_examples(name: str) -> None:
    program = importlib.import_module(name)
    examples = re.findall(r"(?m)^- `(python -m [^`]+)`: ", program.__doc__ or "")
    assert examples
    assert "    python -m" not in str(program.__doc__), "Markdown joins an indented line with its neighbours"
    shown = CliRunner().invoke(program.app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    lines = [line.strip(" •") for line in re.sub(r"\x1b\[[0-9;]*m", "", shown.output).splitlines()]
    for example in examples:
        assert any(line.startswith(f"{example}: ") for line in lines), (example, lines)
