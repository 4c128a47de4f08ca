"""Task files guessed from rows, for `superpos task init` and for `superpos train` without a task file."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from adapters.atomic_files import atomic_write
from adapters.errors import first_error
from cli.console import CommandError, err
from training.data.formats import SUFFIXES
from training.data.sources import RowSources, beside, locate, role_of
from training.data.task_init.draft import Draft, draft_task
from training.data.task_init.writing import task_file_text
from training.runs.layout import TASK
from training.task.task_file import DataSource, TaskFile, parse_task_file

if TYPE_CHECKING:
    from backbone import Backbone


def draft_of(
    data: str,
    backbone: "Backbone",
    *,
    folder: Path,
    name: str,
    label: str | None = None,
    text: Sequence[str] = (),
    separator: str | None = None,
    encoding: str | None = None,
) -> Draft:
    """Guess a task from rows.

    Args:
        data: a file of rows, a directory of them, or a data set on the Hub
        folder: where the task file will be, which its paths are relative to
        label: the label column, guessed if omitted
        text: the text columns, guessed if empty

    Raises:
        CommandError: the rows do not exist, or an option is invalid
        InvalidData: a file cannot be read, or no column qualifies as text or label
    """
    sources, source = _source(data, folder)
    options = {"separator": separator, "encoding": encoding}
    source |= {name: value for name, value in options.items() if value is not None}
    _check_source(source)
    tokenize = backbone.tokenizer.tokenize
    with err.status(f"reading the rows of {data}"):
        return draft_task(
            sources,
            source,
            name=name,
            token_ids=lambda texts: [
                each.token_ids for each in tokenize(texts, max_tokens=sys.maxsize, truncation="error")
            ],
            can_tell_apart=lambda words: label_error(backbone, words) is None,
            label=label,
            text=text,
        )


def label_error(backbone: "Backbone", words: Sequence[str]) -> str | None:
    """Return why the backbone cannot tell label words apart, or None if it can."""
    from backbone import InvalidLabels

    try:
        backbone.label_trie(words)
    except InvalidLabels as exc:
        return str(exc)
    return None


def name_of(data: str) -> str:
    """Derive a task's name from its data; a file called train is named after its folder."""
    path = Path(data)
    word = path.resolve().parent.name if path.is_file() and role_of(path) else path.resolve().stem
    if not path.exists():
        word = re.split(r"[/:]", data)[-1]
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") or "task"


def holds_rows(path: Path) -> bool:
    """Whether an argument names rows: a directory, or a file of a type that rows are in."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


@dataclass(frozen=True, slots=True)
class GuessedTask:
    """A task that was guessed from rows, not yet written."""

    data: Path
    draft: Draft
    task: TaskFile

    def write(self, path: Path, *, resume: bool = False) -> None:
        """Write the task file, with paths relative to its folder; a resumed run keeps its own, which may be edited."""
        if resume and path.exists():
            return
        paths = {"train", "validation", "directory"}
        source = {
            key: _relative(Path(value), path.parent) if key in paths else value
            for key, value in self.draft.source.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        text = task_file_text(replace(self.draft, source=source), command=_command(self.data))
        atomic_write({path: text.encode()})

    def report(self, path: Path) -> None:
        """Print the task file that was written, what is guessed in it and how to correct it."""
        options = {"text": "--text COLUMN", "label": "--label COLUMN"}
        err.print(f"{self.data}: no task file was given, so the task {self.task.name!r} was guessed from the rows:")
        for guess in self.draft.guesses:
            option = f"  [{options[guess.what]}]" if guess.what in options else ""
            err.print(f"  {guess.what}: {guess.value} ({guess.why}){option}")
        for line in self.draft.to_edit:
            err.print(f"  check: {line}", style="yellow")
        err.print(f"the task file, {path}:")
        err.print(path.read_text(encoding="utf-8"), style="dim")
        err.print(f"to correct a guess, repeat the command with its option, or edit the file: superpos train {path}")


def guess_task(
    data: Path, backbone: "Backbone", *, name: str | None, label: str | None, text: Sequence[str]
) -> GuessedTask:
    """Guess the task of rows that are to be trained on at once.

    Raises:
        CommandError: the rows do not decide which column is the label or the text
    """
    draft = draft_of(str(data), backbone, folder=Path(), name=name or name_of(str(data)), label=label, text=text)
    if draft.doubts:
        raise CommandError(f"{data}: {'; '.join(draft.doubts)}")
    written = task_file_text(draft, command=_command(data))
    return GuessedTask(data, draft, parse_task_file(written, path=Path(TASK), variables=os.environ))


def _command(data: Path) -> str:
    return shlex.join(["superpos", "train", str(data)])


def _source(data: str, folder: Path) -> tuple[RowSources, dict[str, str]]:
    """Return the files of the rows, and the entries that name them in a task file in this folder."""
    path = Path(data)
    if path.is_dir():
        return locate(DataSource(directory=data)), {"directory": _relative(path, folder)}
    if path.is_file():
        validation = beside(path)
        named = {"train": _relative(path, folder)}
        if validation is None:
            return RowSources((path,)), named
        return RowSources((path,), (validation,)), named | {"validation": _relative(validation, folder)}
    if path.suffix or path.is_absolute() or data.startswith("."):
        raise CommandError(f"{data}: no such file or directory")
    sources = locate(DataSource(hub=data))
    described = sources.described
    pinned = {"hub": f"{described['hub']}:{described['hub_config']}", "revision": described["hub_revision"]}
    return sources, pinned


def _check_source(source: dict[str, str]) -> None:
    try:
        DataSource.model_validate(source)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise CommandError(f"--{where}: {message} (got {value})") from exc


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
