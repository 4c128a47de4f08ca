"""Run the commands of the tutorial in its order, and compare what they print with what it shows.

    python -m verification.documents            # the whole tutorial, with its training
    python -m verification.documents --quick    # only what takes seconds

A block that starts with ```console holds commands, each after `$ `, and their output; ```yaml after such a block shows
the file that it wrote. Output must be the same to the letter, except for runs of spaces and lines of tables. In a block
that starts with ```console figures-vary, decimal fractions and digests depend on the machine and are not compared. A
line `…` stands for any lines. The program exits with status 1 if something differs.
"""

import difflib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common.server_process import SUPERPOS, Server, started

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
ADDRESS = "http://127.0.0.1:8080"
VARY = "figures-vary"
_TIMEOUT_S = 1_200
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FIGURES = re.compile(r"sha256:[0-9a-f]+|[+-]?\d+\.\d+|(?<=epoch )\s*\d+|\b\d+ held-out")


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a document with the output that the document shows."""

    command: str
    output: str
    figures_vary: bool


def console_commands(document: str) -> Iterator[Shown]:
    """Yield the commands of the console blocks of a document, in order."""
    for block in _FENCE.finditer(document):
        language, _, about = block["info"].partition(" ")
        if language != "console":
            continue
        for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
            command, _, output = part.replace("\\\n", " ").partition("\n")
            yield Shown(command, output, about == VARY)


def shown_file(document: str, command: str) -> str | None:
    """Return the first YAML block after a command, the file that it wrote."""
    _, found, rest = document.partition(f"$ {command}\n")
    block = next((each for each in _FENCE.finditer(rest.partition("```\n")[2]) if each["info"] == "yaml"), None)
    return block["text"] if found and block else None


def difference(expected: str, found: str, *, figures_vary: bool) -> list[str]:
    """Return the lines in which two outputs differ, as a diff; empty if they agree."""
    wanted, printed = (_lines(text, figures_vary=figures_vary) for text in (expected, found))
    at = 0
    for index, line in enumerate(wanted):
        if line == "…":
            following = wanted[index + 1] if index + 1 < len(wanted) else None
            at = printed.index(following, at) if following in printed[at:] else len(printed)
        elif at < len(printed) and printed[at] == line:
            at += 1
        else:
            return list(difflib.unified_diff(wanted, printed, "shown", "printed", lineterm="", n=1))
    return [] if at == len(printed) else [f"+{line}" for line in printed[at:]]


def run(shown: Shown, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Run a command, and return what differs."""
    words = shlex.split(shown.command, comments=True)
    address = environment.get("SUPERPOS_SERVER", ADDRESS)
    program = SUPERPOS if words[0] == "superpos" else words[0]  # or curl
    words = [program, *(word.replace(ADDRESS, address) for word in words[1:])]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "COLUMNS": "400", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return difference(shown.output, done.stdout, figures_vary=shown.figures_vary)


def _lines(text: str, *, figures_vary: bool) -> list[str]:
    text = _FIGURES.sub("#", text) if figures_vary else text
    text = re.sub(r"[━─┏┓┗┛┳┻┡┩╇└┘┴├┤┼]+", "─", text)
    return [squeezed for line in text.splitlines() if (squeezed := " ".join(line.split()))]


def _check(document: str, shown: Sequence[Shown], folder: Path, environment: Mapping[str, str]) -> int:
    failures = 0
    for each in shown:
        wrong = run(each, folder, environment)
        written = re.search(r"--out (\S+\.yaml)", each.command)
        file = shown_file(document, each.command) if written else None
        if written and file is not None:
            wrong += difference(file, (folder / written[1]).read_text(encoding="utf-8"), figures_vary=False)
        failures += bool(wrong)
        typer.echo(f"{'differs' if wrong else 'as shown'}: {each.command}")
        for line in wrong:
            typer.echo(f"    {line}")
    return failures


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Start a server on a free port and a trainer for its jobs, and yield its address once it is ready."""

    registry = ("--registry", str(folder / "registry.sqlite"))

    def command(port: int) -> list[str]:
        # the documents show answers in fp32, which are the same on every processor
        return [SUPERPOS, "serve", "--port", str(port), "--precision", "fp32", *registry]

    server = Server("superpos", command, lambda *_: NotImplemented, None, {})
    with started(server, log=folder / "server.log") as url:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{url}/healthz/ready", timeout=5):
                break
            time.sleep(0.2)
        with (folder / "trainer.log").open("w") as log:
            trainer = subprocess.Popen([SUPERPOS, "trainer", *registry], cwd=folder, stdout=log, stderr=log)
        try:
            yield url
        finally:
            trainer.kill()
            trainer.wait()


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the commands that train or need a server.")] = False,
) -> None:
    """Run the commands of the tutorial."""
    document = TUTORIAL.read_text(encoding="utf-8")
    commands = list(console_commands(document))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "examples", folder / "examples")
        if quick:
            failures = _check(document, [each for each in commands if not each.figures_vary], folder, {})
        else:
            with _serving(folder) as url:
                failures = _check(document, commands, folder, {"SUPERPOS_SERVER": url})
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
