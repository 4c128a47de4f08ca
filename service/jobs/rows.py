"""The rows of a training job: checked against its task when it is submitted, stored until it ends."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from adapters.task import TaskSpec
from service.errors import InvalidRequest
from service.feedback.labels import checked_fields, label_hint
from service.feedback.models import FeedbackRow, Label

GivenRow = tuple[str | Mapping[str, str], Label]
"""A text, or the text of each field, and its label."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """The text of each field of a task, and the right label."""

    input: Mapping[str, str]
    label: Label


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows that a job is trained and measured on."""

    train: tuple[LabelledRow, ...]
    validation: tuple[LabelledRow, ...] = ()
    """Rows to measure on; if there are none, some of the others are held out."""
    corrections: tuple[LabelledRow, ...] = ()
    """Further rows to train on, which nothing is measured on, the latest first."""


_ROWS = TypeAdapter(TrainingRows)


def encode_rows(rows: TrainingRows) -> bytes:
    """Return rows as they are stored."""
    return zlib.compress(_ROWS.dump_json(rows))


def decode_rows(stored: bytes) -> TrainingRows:
    """Return stored rows."""
    return _ROWS.validate_json(zlib.decompress(stored))


def checked_rows(given: Sequence[GivenRow], spec: TaskSpec, *, where: str, max_chars: int) -> tuple[LabelledRow, ...]:
    """Return rows as a job is trained on them; an error names the row by `where` and its index.

    Raises:
        InvalidRow: a text does not fit the task's template, is empty, or is longer than `max_chars`
        InvalidRequest: a label is not one of the task
    """
    names = {name: place for place, name in enumerate(spec.label_names)}
    return tuple(
        LabelledRow(
            _checked_input(item, spec, f"{where}[{index}]", max_chars=max_chars),
            _checked_label(label, names, f"{where}[{index}]", is_multi_label=spec.is_multi_label),
        )
        for index, (item, label) in enumerate(given)
    )


def fitting_corrections(corrections: Sequence[FeedbackRow], spec: TaskSpec) -> tuple[LabelledRow, ...]:
    """Return those corrections whose labels and fields the task has; others are of an earlier form of the task."""
    return tuple(
        LabelledRow(row.input, row.label)
        for row in corrections
        if row.label is not None and _fits(row.input, row.label, spec)
    )


def check_labels_occur(rows: TrainingRows) -> None:
    """Refuse rows that have fewer than two labels, or label sets, to tell apart (`InvalidRequest`)."""
    found = {row.label for row in (*rows.train, *rows.corrections)}
    if len(found) < 2:
        has = f"only the label {next(iter(found))!r}" if found else "no labels: there are none"
        raise InvalidRequest(f"the rows to train on have {has}, expected rows of at least two labels")


def _fits(texts: Mapping[str, str], label: Label, spec: TaskSpec) -> bool:
    labels = (label,) if isinstance(label, str) else label
    is_of_kind = isinstance(label, str) is not spec.is_multi_label
    return is_of_kind and set(labels) <= set(spec.label_names) and set(texts) == set(spec.fields)


def _checked_input(item: str | Mapping[str, str], spec: TaskSpec, where: str, *, max_chars: int) -> Mapping[str, str]:
    template = spec.parsed_template
    return checked_fields(item, template, template.render, where=f"{where}.input", max_chars=max_chars)


def _checked_label(label: Label, names: Mapping[str, int], where: str, *, is_multi_label: bool) -> Label:
    if isinstance(label, str) is is_multi_label:
        expected = "a list of labels: the task is multi-label" if is_multi_label else "one label"
        raise InvalidRequest(f"{where}.label is {repr(label)[:200]}, expected {expected}")
    for each in (label,) if isinstance(label, str) else label:
        if each not in names:
            raise InvalidRequest(f"{where}.label {each[:200]!r} is not a label of the task; {label_hint(each, names)}")
    if isinstance(label, str):
        return label
    if len(set(label)) < len(label):
        raise InvalidRequest(f"{where}.label is {repr(list(label))[:200]}, expected each label once")
    return tuple(sorted(label, key=names.__getitem__))
