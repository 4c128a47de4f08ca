"""Task files: YAML that names a task, its template and labels, and where its rows are."""

import re
from collections.abc import Hashable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.errors import InvalidName
from adapters.names import check_name
from adapters.task import TaskSpec
from adapters.validation import first_error
from training.errors import InvalidTaskFile

Metric = Literal["accuracy", "macro_f1"]

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SPEC_KEYS = frozenset(TaskSpec.model_fields)


class DataSource(BaseModel):
    """Where a task's rows are, and how their columns are to be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str
    validation: str | None = None
    """Left out: a tenth of the training rows, drawn by the seed."""
    label: str = "label"
    """The column that holds the label."""
    label_values: dict[str, str] = {}
    """What stands in that column, to the label's name (`0: negative`); left out where names stand there."""
    columns: dict[str, str] = {}
    """A field's column, where the column is not named like the field."""
    group: str | None = None
    """The column of what is judged together: MultiRC's question, whose answers must all be right."""
    round_to: Annotated[Decimal, Field(gt=0)] | None = None
    """Ordinal tasks: the grid that a label's number is rounded to (0.2 for STS-B), halves to the even step."""


class TaskFile(BaseModel):
    """One task as a file describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: Annotated[str, Field(max_length=2_000)] = ""
    spec: TaskSpec
    metric: Metric = "accuracy"
    """What the best epoch is chosen by."""
    data: DataSource


class _TextLoader(yaml.BaseLoader):
    """Reads every scalar as text and refuses a key that stands twice, where YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_task_file(path: Path, *, variables: Mapping[str, str]) -> TaskFile:
    """Read a task file. Paths in it are relative to the file; `${NAME}` stands for a variable.

    Every scalar is read as text, so that a label called `no` stays one.

    Raises:
        InvalidTaskFile: it cannot be read, a field is wrong, or a variable it uses is not set
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_TextLoader)  # noqa: S506 - str, list and dict
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidTaskFile(f"{path}: cannot be read: {exc}") from exc
    except yaml.YAMLError as exc:
        raise InvalidTaskFile(f"{path}: not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(raw, dict):
        raise InvalidTaskFile(f"{path}: expected a mapping with name, template, labels and data")
    try:
        task = TaskFile.model_validate(_nested(raw))
        check_name("task", task.name)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise InvalidTaskFile(f"{path}: {where.removeprefix('spec.')}: {message} (got {value})") from exc
    except InvalidName as exc:
        raise InvalidTaskFile(f"{path}: name: {exc}") from exc
    _check_data(task, path)
    return task.model_copy(update={"data": _placed(task.data, path, variables)})


def _nested(raw: dict[str, object]) -> dict[str, object]:
    """The file is flat for its readers; the spec's keys go into one value."""
    spec = {key: value for key, value in raw.items() if key in _SPEC_KEYS}
    rest = {key: value for key, value in raw.items() if key not in _SPEC_KEYS}
    # a key called spec would be hidden by ours: under another name it is refused as unknown
    return {("spec:" if key == "spec" else key): value for key, value in rest.items()} | {"spec": spec}


def _check_data(task: TaskFile, path: Path) -> None:
    for field in task.data.columns:
        if field not in task.spec.fields:
            known = ", ".join(task.spec.fields)
            raise InvalidTaskFile(f"{path}: data.columns.{field}: not a field of the template, expected one of {known}")
    for cell, name in task.data.label_values.items():
        if name not in task.spec.label_names:
            known = ", ".join(task.spec.label_names)
            raise InvalidTaskFile(f"{path}: data.label_values.{cell}: {name!r} is not a label, expected one of {known}")
    if task.data.round_to is not None:
        if task.spec.kind != "ordinal":
            raise InvalidTaskFile(f"{path}: data.round_to: {task.data.round_to} needs a task of kind ordinal")
        for name in task.spec.label_names:
            if Decimal(name) % task.data.round_to:
                raise InvalidTaskFile(f"{path}: data.round_to: label {name!r} is no multiple of {task.data.round_to}")


def _placed(data: DataSource, path: Path, variables: Mapping[str, str]) -> DataSource:
    def place(value: str) -> str:
        for name in _VARIABLE.findall(value):
            if name not in variables:
                raise InvalidTaskFile(
                    f"{path}: data: {value!r} needs the variable {name}; set it in the environment, for example "
                    f"{name}=/path/to/data"
                )
        return str(path.parent / _VARIABLE.sub(lambda match: variables[match[1]], value))

    validation = None if data.validation is None else place(data.validation)
    return data.model_copy(update={"train": place(data.train), "validation": validation})
