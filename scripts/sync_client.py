"""Write the client without `async` from the one with it: `client/superpos_client/_sync` from `_async`.

python -m scripts.sync_client              # writes
python -m scripts.sync_client --check      # fails if a file is not current

`io.py`, where the two wait, is written by hand in both.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

PACKAGE = Path(__file__).parents[1] / "client" / "superpos_client"
BY_HAND = {"__init__.py", "io.py"}
_HEADER = "# Written by scripts/sync_client.py from _async/{name}: change that file.\n"
_NAMES = {
    "_async": "_sync",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "anext": "next",
    "async_transport": "transport",
    "AsyncExitStack": "ExitStack",
    "StopAsyncIteration": "StopIteration",
}
_TEXT = ((r"\bawait ", ""), (r"\basync (with|for|def)\b", r"\1"), (r"\bAsync(?=[A-Z])", ""), (r"\b_async\b", "_sync"))
"""Replacements in docstrings."""


def generated() -> Mapping[Path, str]:
    """Return the text of each generated file."""
    return {
        PACKAGE / "_sync" / source.name: _formatted(
            _HEADER.format(name=source.name) + without_async(source.read_text())
        )
        for source in sorted((PACKAGE / "_async").glob("*.py"))
        if source.name not in BY_HAND
    }


def without_async(source: str) -> str:
    """Return Python code with its `async` and `await`, and the names that belong to them, replaced."""
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if (text := _replaced(token)) is None:
            continue
        (first, start), (last, end) = token.start, token.end
        rest = lines[last - 1][end:]
        lines[first - 1 : last] = [lines[first - 1][:start] + text + (rest if text else rest.removeprefix(" "))]
    return "".join(lines)


def _replaced(token: tokenize.TokenInfo) -> str | None:
    """Return what replaces a token; None if it stays."""
    if token.type == tokenize.NAME:
        return "" if token.string in ("async", "await") else _name(token.string)
    if token.type != tokenize.STRING:
        return None
    text = token.string
    for pattern, replacement in _TEXT:
        text = re.sub(pattern, replacement, text)
    return text


def _name(name: str) -> str:
    return _NAMES.get(name) or re.sub(r"^Async(?=[A-Z])", "", name)


def _formatted(source: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", str(PACKAGE / "_sync" / "made.py"), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
        )
        source = done.stdout
    return source


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is not current.")] = False,
) -> None:
    """Write the files, or compare them."""
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(Path.cwd())}: {'not current' if check else 'written'}")
        if not check:
            path.write_text(generated()[path])
    if check and stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
