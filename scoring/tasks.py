"""The tasks of a job: the version that answers, the columns that it reads, and the columns that it adds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow

from adapters.names import Ref
from adapters.task import TaskSpec
from scoring.errors import InvalidInput
from scoring.files.part import AddedColumn, Contents, InputRow
from superpos_client import Client, NotFound, Prediction, Row, ServerFault, SuperposError
from superpos_client.answers import Truncate


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row has no answer."""

    reason: str


Outcome = Prediction | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How rows are answered, and what of the answers is written."""

    truncate: Truncate = "error"
    scores: bool = False
    """Write the probability of every label."""
    prefix: str = ""
    """Begins the name of each added column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTask:
    """One task of a job."""

    ref: str
    """As the user wrote it."""
    task: str
    version: int
    digest: str
    spec: TaskSpec
    backbone: Mapping[str, Any]
    columns: Mapping[str, str]
    """The column of each field."""

    @property
    def pinned(self) -> str:
        """The ref of the version."""
        return f"{self.task}@{self.version}"

    def item(self, row: InputRow) -> Row | Refusal:
        """Return what is classified of a row."""
        texts: dict[str, str] = {}
        for field, column in self.columns.items():
            try:
                value = row.cell(column)
            except KeyError:
                return Refusal(f"the row has no column {column!r}")
            if value is None or (isinstance(value, float) and math.isnan(value)):
                return Refusal(f"column {column!r} has no value, expected text")
            if not isinstance(value, str):
                return Refusal(f"column {column!r} is {_shown(value)}, expected text")
            texts[field] = value
        return next(iter(texts.values())) if len(texts) == 1 else texts

    def check(self, contents: Contents, name: str) -> None:
        """Refuse a file without the task's columns (`InvalidInput`)."""
        for field, column in self.columns.items():
            top = column if column in contents.columns else column.partition(".")[0]
            if top not in contents.columns:
                option = "--text COLUMN" if len(self.columns) == 1 else f"--column {field}=COLUMN"
                known = ", ".join(contents.columns[:20]) + (", …" if len(contents.columns) > 20 else "")
                raise InvalidInput(
                    f"{name} has no column {column!r}, which {self.ref} reads; name the column of its field "
                    f"{field!r} with {option}: {known}"
                )
            if contents.text_columns is not None and top not in contents.text_columns:
                raise InvalidInput(f"{name}: column {column!r} does not hold text, which {self.ref} reads")


def resolve_tasks(
    client: Client, refs: Sequence[str], *, text: str | None, columns: Mapping[str, str]
) -> list[ScoredTask]:
    """Find the version that each ref means now; it answers all rows, whatever is released meanwhile.

    Args:
        client: of the server or the engine
        refs: tasks
        text: the column of tasks with one field
        columns: the column of each field that is not named like its column

    Raises:
        SuperposError: no such task or version
        InvalidInput: a column is given for a field that no task has
    """
    return reading([_resolved(client, ref) for ref in refs], text=text, columns=columns)


def reading(tasks: Sequence[ScoredTask], *, text: str | None, columns: Mapping[str, str]) -> list[ScoredTask]:
    """Return tasks with the columns that they read; arguments and errors as `resolve_tasks`."""
    fields = {field for task in tasks for field in task.spec.fields}
    for field in columns:
        if field not in fields:
            raise InvalidInput(f"--column {field}=…: no field {field!r}, the tasks have {', '.join(sorted(fields))}")
    if text is not None and all(len(task.spec.fields) > 1 for task in tasks):
        needed = " ".join(f"--column {field}=COLUMN" for field in tasks[0].spec.fields)
        raise InvalidInput(f"--text {text}: {tasks[0].ref} has several fields, name the column of each: {needed}")
    return [replace(task, columns=_columns(task.spec.fields, text, columns)) for task in tasks]


def _columns(fields: Sequence[str], text: str | None, columns: Mapping[str, str]) -> dict[str, str]:
    usual = {fields[0]: text} if text is not None and len(fields) == 1 else {}
    return {field: columns.get(field, usual.get(field, field)) for field in fields}


def _resolved(client: Client, text_of_ref: str) -> ScoredTask:
    ref = Ref.parse(text_of_ref)
    known = client.tasks.get(ref.task)
    number = ref.version
    if ref.alias is not None:
        number = known.aliases.get(ref.alias)
    elif ref.digest is not None:
        number = next((each.version for each in known.versions if each.digest.startswith(ref.digest)), None)
    version = next((each for each in known.versions if each.version == number), None)
    if version is None:
        there = ", ".join([*known.aliases, *(str(each.version) for each in known.versions)])
        detail = f"{text_of_ref}: task {ref.task!r} has no such version; it has {there}"
        raise NotFound(detail, code="not_found", detail=detail)
    adapter = client.tasks.adapter(ref.task, version.version)
    return ScoredTask(
        ref=text_of_ref,
        task=ref.task,
        version=version.version,
        digest=version.digest,
        spec=TaskSpec.model_validate(adapter.spec),
        backbone=adapter.backbone,
        columns={},
    )


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """A column that a task adds."""

    added: AddedColumn
    kind: str
    """`label`, `score`, …: its name without prefixes."""
    value: Callable[[Prediction], object]


def answer_columns(task: ScoredTask, options: AnswerOptions, *, prefix: str) -> list[AnswerColumn]:
    """Return the columns that a task adds."""
    spec, names = task.spec, task.spec.label_names
    scores = pyarrow.struct([(name, pyarrow.float64()) for name in names])
    columns: list[tuple[str, pyarrow.DataType, Callable[[Prediction], object]]] = [
        ("label", pyarrow.string(), lambda answer: answer.label),
        ("score", pyarrow.float64(), lambda answer: answer.score),
    ]
    if spec.is_multi_label:
        columns.append(("labels", pyarrow.list_(pyarrow.string()), lambda answer: list(answer.labels or ())))
    if spec.kind == "ordinal":
        columns.append(("value", pyarrow.float64(), lambda answer: answer.value))
    if options.scores:
        columns.append(("scores", scores, lambda answer: {name: answer.scores[name] for name in names}))
    columns.append(("abstained", pyarrow.bool_(), lambda answer: answer.abstained))
    if options.truncate != "error":
        columns.append(("truncated", pyarrow.bool_(), lambda answer: answer.truncated))
    columns += [
        ("version", pyarrow.int32(), lambda answer: answer.version),
        ("digest", pyarrow.string(), lambda answer: answer.digest),
    ]
    return [AnswerColumn(AddedColumn(prefix + name, kind), name, value) for name, kind, value in columns]


def all_columns(tasks: Sequence[ScoredTask], options: AnswerOptions) -> list[list[AnswerColumn]]:
    """Return the columns of each task; those of several tasks begin with the task's name."""
    names = [task.task for task in tasks]
    found = []
    for task in tasks:
        own = "" if len(tasks) == 1 else f"{task.ref if names.count(task.task) > 1 else task.task}_"
        found.append(answer_columns(task, options, prefix=options.prefix + own))
    return found


def check_names(contents: Contents, columns: Sequence[AnswerColumn], name: str) -> None:
    """Refuse a file that has a column of an added column's name (`InvalidInput`)."""
    for column in columns:
        if column.added.name in contents.columns:
            raise InvalidInput(
                f"{name} has a column {column.added.name!r} already; name the new columns with --prefix, for example "
                "--prefix predicted_"
            )


def refusal_of(error: SuperposError) -> Refusal | None:
    """Return the refusal of a row that caused an error; None for an error that no row causes.

    A failure of the server has been narrowed down to its row (`superpos_client.stream`).
    """
    return Refusal(error.reason) if error.code in ROW_CODES or isinstance(error, ServerFault) else None


ROW_CODES = frozenset({"invalid_input", "invalid_request", "text_too_long", "body_too_large", "inference_failed"})
"""Codes of errors that a row alone causes."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
