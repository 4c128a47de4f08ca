"""What tests of rows and their splits build with: a task about the weather, and files of its rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters import TaskSpec
from backbone import NOTABLE_UNKNOWN_SHARE, TokenizedText
from training.data.examples import read_examples
from training.data.row_files import RowFiles
from training.data.splits import SplitRows, divide
from training.data.validation.pieces import ModelView
from training.errors import InvalidData
from training.task.task_file import DataSource, TaskFile

Row = Mapping[str, object]
WEATHER = TaskSpec(template="text: {text}", labels={"sun": "sunny", "rain": "rainy"}, max_tokens=32)


def task_of(train: Path, validation: Path | None = None, *, spec: TaskSpec = WEATHER, **source: object) -> TaskFile:
    """A task whose rows are these files'."""
    paths = {"train": str(train), "validation": None if validation is None else str(validation)}
    return TaskFile(name="weather", spec=spec, data=DataSource.model_validate({**paths, **source}))


def read_split(task: TaskFile, **asked: Any) -> SplitRows:
    """A task's files read and divided."""
    return divide(RowFiles(task), **asked)


def view_of(
    pieces: Callable[[Sequence[str]], list[list[int]]] = lambda words: [[ord(word[0])] for word in words],
    refusal: str | None = None,
) -> ModelView:
    """A view of rows by a vocabulary of whole words, each with a token of its own; label words have these pieces."""
    ids: dict[str, int] = {}

    def read(texts: Sequence[str]) -> list[TokenizedText]:
        return [TokenizedText((*(ids.setdefault(word, len(ids) + 2) for word in text.split()), 1)) for text in texts]

    return ModelView(
        pieces=pieces,
        rows=lambda examples: read([example.text for example in examples]),
        fields=read,
        refusal=lambda: refusal,
        unknown_id=0,
        notable_share=NOTABLE_UNKNOWN_SHARE,
    )


def write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def jsonl_with(path: Path, line: bytes) -> Path:
    """A file of JSON lines whose third line is this one."""
    good = b'{"text": "clear", "label": "sun"}\n'
    path.write_bytes(good * 2 + line + b"\n" + good)
    return path


def refusal(path: Path, *, spec: TaskSpec = WEATHER, **source: object) -> str:
    """What a file is refused with: one line that begins with its name."""
    with pytest.raises(InvalidData) as caught:
        read_examples(path, task_of(path, spec=spec, **source))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")
