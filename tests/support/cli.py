"""What tests of the `superpos` command build with: the command itself, and a desk with a task to use it on."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from adapters import PromptAdapter
from adapters.files import from_files, read_folder
from cli.main import app

CONSOLE_SCRIPT = Path(sys.executable).with_name("superpos")
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
    *("--precision", "fp32"),
    *("--no-report", "--no-baselines"),
]
"""Options of `superpos train` for a run of seconds, with the readout that suits the task."""
QUICK_WORDS = [*QUICK, "--readout", "words"]


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
