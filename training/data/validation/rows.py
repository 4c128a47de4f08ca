"""Checks of rows: reading errors, duplicates, conflicts, leakage, and odd texts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.data.examples import (
    Example,
    example_of,
    label_index,
    label_items,
    task_rows,
    text_key,
    with_class_names,
)
from training.data.folds import whole_groups
from training.data.formats import Reading
from training.data.missing import is_missing
from training.data.splits import HELD_OUT_SHARE
from training.data.validation.findings import Finding, finding, shortened
from training.errors import InvalidData
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class PlacedExample:
    """An example and its place: `train.csv: line 7`."""

    place: str
    example: Example
    key: str
    """The text normalised for comparison: case, spacing and Unicode form are ignored."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one role."""

    role: str
    """`train` or `validation`."""
    examples: tuple[PlacedExample, ...]
    unknown_labels: tuple[tuple[str, str], ...]
    """Each place, and the unknown label in it."""
    faults: tuple[str, ...]
    """Other rows and files that cannot be read; each text begins with its place."""
    missing_labels: tuple[str, ...] = ()
    """The rows without a label; each text begins with its place."""
    notes: tuple[str, ...] = ()
    """How the files were read, if not in the usual way of their type."""


def read_sheet(role: str, paths: Sequence[Path], task: TaskFile) -> Sheet:
    """Read the files of a role, collecting errors instead of raising them."""
    examples: list[PlacedExample] = []
    unknown: list[tuple[str, str]] = []
    faults: list[str] = []
    missing: list[str] = []
    readings: list[Reading] = []
    for path in paths:
        try:
            of_file = with_class_names(task, path)
            rows = task_rows(path, task, on_fault=partial(_keep, faults, path), on_read=readings.append)
            for where, row in rows:
                place = f"{path.name}: {where}"
                try:
                    example = example_of(row, place, of_file)
                    examples.append(PlacedExample(place, example, text_key(example.text)))
                except InvalidData as exc:
                    cell = row.get(task.data.label)
                    strange = _unknown_labels(cell, of_file) if task.data.label in row else []
                    is_blank_list = task.spec.is_multi_label and isinstance(cell, str)
                    if task.data.label in row and is_missing(cell) and not is_blank_list:
                        missing.append(str(exc))
                    elif strange:
                        unknown += [(place, str(label)) for label in strange]
                    else:
                        faults.append(str(exc))
        except InvalidData as exc:
            _keep(faults, path, exc)
    notes = tuple(str(reading) for reading in readings if reading.notes)
    return Sheet(role, tuple(examples), tuple(unknown), tuple(faults), tuple(missing), notes)


def _unknown_labels(cell: object, task: TaskFile) -> list[object]:
    """Return the labels in a cell that the task does not have."""
    labels = (label_items(cell, task) or []) if task.spec.is_multi_label else [cell]
    return [label for label in labels if label_index(label, task) is None]


def _keep(faults: list[str], path: Path, fault: InvalidData) -> None:
    """Record a fault under its file's name."""
    faults.append(f"{path.name}{str(fault).removeprefix(str(path))}")


_STRANGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffd\u200b\u2060]")
"""Control characters except tab and line ends, byte-order marks, replacement characters and zero-width spaces. Joiners
are allowed, since Persian and emoji use them."""


def unreadable_rows(sheets: Iterable[Sheet]) -> list[Finding]:
    """Find rows and files that cannot be read, and files without rows."""
    found = []
    for sheet in sheets:
        found += finding("error", "bad-row", f"{sheet.role}: rows that cannot be read", sheet.faults)
        found += finding("error", "missing-label", f"{sheet.role}: rows without a label", sheet.missing_labels)
        if not sheet.faults and not sheet.unknown_labels and not sheet.missing_labels and not sheet.examples:
            found += finding("error", "no-rows", f"{sheet.role}: no rows", [sheet.role])
    return found


def too_few_rows(train: Sheet, *, has_validation: bool) -> list[Finding]:
    """Check that a tenth of the training rows, in whole groups, can be held out; twice without validation rows."""
    rows = len(train.examples)
    left = rows if has_validation else rows - int(rows * HELD_OUT_SHARE)
    if rows and (int(rows * HELD_OUT_SHARE) < 1 or int(left * HELD_OUT_SHARE) < 1):
        return finding("error", "too-few-rows", f"train: {rows} rows are too few to hold out a tenth", [train.role])
    groups = len(whole_groups([row.example for row in train.examples]))
    if rows and groups < (needed := 2 if has_validation else 3):
        message = (
            f"train: {rows} rows have {groups} groups or different texts, "
            f"expected at least {needed} to hold out whole ones"
        )
        return finding("error", "too-few-rows", message, [train.role])
    return []


def repeated_rows(sheet: Sheet) -> list[Finding]:
    """Find rows with the text and label of an earlier row of the file."""
    seen: dict[tuple[str, tuple[int, ...]], str] = {}
    places = []
    for row in sheet.examples:
        first = seen.setdefault((row.key, row.example.labels), row.place)
        if first != row.place:
            places.append(f"{row.place} repeats {first}: {shortened(row.example.text)}")
    return finding("warning", "duplicate-row", f"{sheet.role}: repeated rows", places)


def conflicting_rows(sheets: Iterable[Sheet], label_names: Sequence[str]) -> list[Finding]:
    """Find rows with the text of another row but a different label, in either file."""
    seen: dict[str, PlacedExample] = {}
    places = []
    for row in (row for sheet in sheets for row in sheet.examples):
        first = seen.setdefault(row.key, row)
        if first.example.label != row.example.label:
            ours, theirs = row.example.named(label_names), first.example.named(label_names)
            places.append(f"{row.place} {ours!r}, {first.place} {theirs!r}: {shortened(row.example.text)}")
    return finding("warning", "conflicting-row", "the same text with different labels", places)


def leaked_rows(train: Sheet, validation: Sheet) -> list[Finding]:
    """Find validation rows whose text is also a training row, which makes their scores optimistic."""
    trained = {row.key: row.place for row in reversed(train.examples)}
    places = [
        f"{row.place} repeats {trained[text]}: {shortened(row.example.text)}"
        for row in validation.examples
        if (text := row.key) in trained
    ]
    share = len(places) / max(1, len(validation.examples))
    message = f"validation: {100 * share:.1f} % of the texts also occur in the training rows"
    return finding("warning", "leakage", message, places)


def empty_rows(sheet: Sheet) -> list[Finding]:
    """Find rows with a blank field."""
    places = [
        f"{row.place}: field {name!r} is {value!r}"
        for row in sheet.examples
        for name, value in row.example.fields.items()
        if not value.strip()
    ]
    return finding("warning", "empty-text", f"{sheet.role}: empty fields", places)


def unprintable_rows(sheet: Sheet) -> list[Finding]:
    """Find rows with control characters or the residue of a broken conversion."""
    places = []
    for row in sheet.examples:
        if (strange := _STRANGE.search(row.example.text)) is not None:
            places.append(f"{row.place}: U+{ord(strange[0]):04X} in {shortened(row.example.text)}")
    return finding("warning", "non-printable", f"{sheet.role}: unprintable characters", places)
