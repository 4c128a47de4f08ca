"""Task files: YAML with the name, template and labels of a task, and the location of its rows."""

import codecs
import re
from collections.abc import Hashable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from adapters.errors import InvalidName, first_error
from adapters.names import check_name
from adapters.regular_files import read_regular
from adapters.task import TaskSpec
from training.errors import InvalidTaskFile
from training.task.grid import is_on_grid
from training.task.scoring import (
    METRIC_NAMES,
    MULTI_LABEL_DEFAULT,
    MULTI_LABEL_METRICS,
    MULTI_LABEL_ONLY,
    MetricName,
    Scoring,
)

_MAX_BYTES = 4 << 20
_VARIABLE = re.compile(r"\$\{(\w+)\}")
LABEL_SEPARATOR = "|"
"""Between the labels of a multi-label row in one cell of text, if the task file names no other."""
_OF_ONE = frozenset({"f1", "f1a"})
"""Metrics that refer to one label, the positive one."""
_SPEC_KEYS = frozenset(TaskSpec.model_fields)


class DataSource(BaseModel):
    """The location of a task's rows and the meaning of their columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str | None = None
    """A Parquet, JSONL, CSV or TSV file; omitted if the rows are in a directory or on the Hub."""
    validation: str | None = None
    """If omitted: a tenth of the training rows, drawn by the seed."""
    directory: str | None = None
    """A directory whose file names give their roles: `train.csv`, `validation-00000-of-00002.parquet`."""
    hub: str | None = None
    """A data set on the Hugging Face Hub, `owner/name` or `owner/name:config`, in the Hub's Parquet conversion."""
    revision: str | None = None
    """The commit of the Parquet conversion; the newest if omitted."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """The character between the cells of CSV and TSV files; detected if omitted."""
    encoding: str | None = None
    """The encoding of text files; if omitted, that of the byte-order mark, else UTF-8, or detected."""
    corrections: str | None = None
    """A file that `superpos feedback export` wrote, whose rows are trained on too; they are never reported on."""
    label: str = "label"
    """The column that holds the label."""
    label_values: dict[str, str] = {}
    """The label name for each value of that column (`0: negative`); omitted if the column holds names."""
    label_separator: Annotated[str, Field(min_length=1, max_length=8)] | None = None
    """Multi-label tasks: the text between labels in one cell, such as `billing|account`; `|` if omitted. A column of
    lists, in Parquet and JSONL, needs none."""
    columns: dict[str, str] = {}
    """The column of each field whose column is not named like the field."""
    group: str | None = None
    """The column whose equal values are judged together: in MultiRC, all answers to a question must be right."""
    round_to: Annotated[Decimal, Field(gt=0)] | None = None
    """Ordinal tasks: the step that label numbers are rounded to (0.2 for STS-B), ties to the even step."""

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str | None) -> str | None:
        if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
            raise ValueError('expected one character such as ";", for a tab "\\t" in double quotes')
        return separator

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            found = codecs.lookup(encoding).name
            "a".encode(found)
        except (LookupError, ValueError) as exc:
            raise ValueError("expected an encoding such as utf-8, utf-16, cp1252 or gb18030") from exc
        return found

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("train", "directory", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of train, directory and hub, got {' and '.join(given) or 'none'}")
        if self.validation is not None and self.train is None:
            raise ValueError(f"validation needs a train file, it cannot be combined with {given[0]}")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision needs rows from the Hub")
        if self.hub is not None and not self.separator is self.encoding is None:
            raise ValueError("separator and encoding are of text files, the Hub's are Parquet")
        return self


class TaskFile(BaseModel):
    """A task as its file describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: Annotated[str, Field(max_length=2_000)] = ""
    spec: TaskSpec
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = ("accuracy",)
    """The task's score is their mean, by which the best epoch is selected. A file may name a single one as `metric`;
    without any, it is accuracy, and micro_f1 of a multi-label task."""
    positive: Annotated[str | None, Field(validate_default=True)] = None
    """The label that F1 refers to; if omitted, the second of two."""
    data: DataSource

    @field_validator("metrics")
    @classmethod
    def _metrics_fit(cls, metrics: tuple[MetricName, ...], info: ValidationInfo) -> tuple[MetricName, ...]:
        spec = info.data.get("spec")
        if len(set(metrics)) < len(metrics):
            raise ValueError("a metric is repeated")
        if spec is None:
            return metrics
        if spec.kind != "ordinal" and {"pearson", "spearman"} & set(metrics):
            raise ValueError("pearson and spearman need labels that are numbers, kind: ordinal")
        allowed = MULTI_LABEL_METRICS if spec.is_multi_label else set(METRIC_NAMES) - MULTI_LABEL_ONLY
        if strange := [name for name in metrics if name not in allowed]:
            known = ", ".join(name for name in METRIC_NAMES if name in allowed)
            raise ValueError(f"{strange[0]} is not a metric of kind {spec.kind}, expected one of {known}")
        return metrics

    @field_validator("positive")
    @classmethod
    def _positive_fits(cls, positive: str | None, info: ValidationInfo) -> str | None:
        spec = info.data.get("spec")
        if spec is not None and positive is not None and positive not in spec.label_names:
            raise ValueError(f"not a label, expected one of {', '.join(spec.label_names)}")
        of_one = bool(_OF_ONE & set(info.data.get("metrics", ())))
        if spec is not None and positive is None and of_one and len(spec.labels) != 2:
            raise ValueError(f"F1 with {len(spec.labels)} labels needs the positive label")
        return positive

    @field_validator("data")
    @classmethod
    def _groups_for_exact_match(cls, data: DataSource, info: ValidationInfo) -> DataSource:
        if data.group is None and "exact_match" in info.data.get("metrics", ()):
            raise ValueError("exact_match needs `group`, the column of the rows that are judged together")
        return data

    @property
    def metric(self) -> str:
        """The name of the task's score: its only metric, or `score`, the mean of several."""
        return self.metrics[0] if len(self.metrics) == 1 else "score"

    @property
    def scoring(self) -> Scoring:
        """The metrics of the task's predictions."""
        names = self.spec.label_names
        return Scoring(
            metrics=self.metrics,
            positive=1 if self.positive is None else names.index(self.positive),
            values=tuple(map(float, names)) if self.spec.kind == "ordinal" else None,
            multi_label=self.spec.is_multi_label,
        )


class _TextLoader(yaml.BaseLoader):
    """Reads every scalar as text and rejects duplicate keys, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_task_file(path: Path, *, variables: Mapping[str, str]) -> TaskFile:
    """Read a task file.

    Raises:
        InvalidTaskFile: the file cannot be read, or as for `parse_task_file`
    """
    try:
        text = read_regular(path, max_bytes=_MAX_BYTES).decode()
    except OSError as exc:
        raise InvalidTaskFile(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidTaskFile(f"{path}: cannot be read: {exc}") from exc
    return parse_task_file(text, path=path, variables=variables)


def parse_task_file(text: str, *, path: Path, variables: Mapping[str, str]) -> TaskFile:
    """Parse the text of a task file. Paths in it are relative to the file; `${NAME}` stands for a variable.

    Every scalar is read as text, so that a label called `no` stays text.

    Raises:
        InvalidTaskFile: not YAML, an invalid field, or a variable that is not set
    """
    try:
        raw = yaml.load(text, Loader=_TextLoader)  # noqa: S506 - str, list and dict
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
    """Collect the keys of the task's spec, which the file lists at its top level, under `spec`."""
    spec = {key: value for key, value in raw.items() if key in _SPEC_KEYS}
    rest = {key: value for key, value in raw.items() if key not in _SPEC_KEYS}
    if "metric" in rest and "metrics" not in rest:
        rest["metrics"] = [rest.pop("metric")]
    if raw.get("kind") == "multi_label":
        rest.setdefault("metrics", list(MULTI_LABEL_DEFAULT))
    # a key called spec would be replaced by this one; under another name it is rejected as unknown
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
    if task.data.label_separator is not None and not task.spec.is_multi_label:
        raise InvalidTaskFile(
            f"{path}: data.label_separator: {task.data.label_separator!r} needs a task of kind multi_label"
        )
    if task.data.round_to is not None:
        if task.spec.kind != "ordinal":
            raise InvalidTaskFile(f"{path}: data.round_to: {task.data.round_to} needs a task of kind ordinal")
        for name in task.spec.label_names:
            if not is_on_grid(Decimal(name), task.data.round_to):
                raise InvalidTaskFile(
                    f"{path}: data.round_to: label {name!r} is not a multiple of {task.data.round_to}"
                )


def _placed(data: DataSource, path: Path, variables: Mapping[str, str]) -> DataSource:
    def place(value: str) -> str:
        for name in _VARIABLE.findall(value):
            if name not in variables:
                raise InvalidTaskFile(
                    f"{path}: data: {value!r} needs the variable {name}; set it in the environment, for example "
                    f"{name}=/path/to/data"
                )
        return str(path.parent / _VARIABLE.sub(lambda match: variables[match[1]], value))

    places = {name: getattr(data, name) for name in ("train", "validation", "directory", "corrections")}
    return data.model_copy(update={name: place(value) for name, value in places.items() if value is not None})
