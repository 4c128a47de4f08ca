"""A task's files read to their ends: the rows that are examples, and every one that is none, with the reason."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.data.examples import Example, cell_of, example_of, label_index, with_class_names
from training.data.formats import raw_rows
from training.data.splits import HELD_OUT_SHARE
from training.data.validation.findings import Finding, finding, shortened
from training.errors import InvalidData
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class PlacedExample:
    """An example, and where it stands: `train.csv: line 7`."""

    place: str
    example: Example
    key: str
    """What its text is the same by: case, spaces and the form of a letter are no difference."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one role."""

    role: str
    """`train` or `validation`."""
    examples: tuple[PlacedExample, ...]
    unknown_labels: tuple[tuple[str, str], ...]
    """Places, and what stands there for a label."""
    faults: tuple[str, ...]
    """Rows that are no examples for another reason, and files that cannot be read; each begins with its place."""


def read_sheet(role: str, paths: Sequence[Path], task: TaskFile) -> Sheet:
    """Read a role's files; nothing in them raises."""
    examples: list[PlacedExample] = []
    unknown: list[tuple[str, str]] = []
    faults: list[str] = []
    for path in paths:
        try:
            of_file = with_class_names(task, path)
            for where, row in raw_rows(path, on_fault=partial(_keep, faults, path)):
                place = f"{path.name}: {where}"
                try:
                    example = example_of(row, place, of_file)
                    examples.append(PlacedExample(place, example, _normalised(example.text)))
                except InvalidData as exc:
                    if task.data.label in row and label_index(row[task.data.label], of_file) is None:
                        unknown.append((place, str(cell_of(row, task.data.label, place))))
                    else:
                        faults.append(str(exc))
        except InvalidData as exc:
            _keep(faults, path, exc)
    return Sheet(role, tuple(examples), tuple(unknown), tuple(faults))


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keep(faults: list[str], path: Path, fault: InvalidData) -> None:
    """Note a fault under its file's name, as the rows are."""
    faults.append(f"{path.name}{str(fault).removeprefix(str(path))}")


_STRANGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffd\u200b\u2060]")
"""Control characters but tab and line ends, byte-order marks, the mark of a character that was lost, spaces of no
width; joiners belong to Persian and emoji."""


def unreadable_rows(sheets: Iterable[Sheet]) -> list[Finding]:
    """Rows and files that are no examples, and files without rows enough."""
    found = []
    for sheet in sheets:
        found += finding("error", "bad-row", f"{sheet.role}: rows that cannot be read", sheet.faults)
        if not sheet.faults and not sheet.unknown_labels and not sheet.examples:
            found += finding("error", "no-rows", f"{sheet.role}: no rows", [sheet.role])
    return found


def too_few_rows(train: Sheet, *, has_validation: bool) -> list[Finding]:
    """Training holds a tenth out to choose by, and another to report on where no validation rows are; groups whole."""
    rows = len(train.examples)
    left = rows if has_validation else rows - int(rows * HELD_OUT_SHARE)
    if rows and (int(rows * HELD_OUT_SHARE) < 1 or int(left * HELD_OUT_SHARE) < 1):
        return finding("error", "too-few-rows", f"train: {rows} rows are too few to hold a tenth out", [train.role])
    groups = {row.example.group for row in train.examples} - {None}
    if groups and len(groups) < (needed := 2 if has_validation else 3):
        message = f"train: groups of its {rows} rows: {len(groups)}, at least {needed} to hold whole ones out"
        return finding("error", "too-few-rows", message, [train.role])
    return []


def repeated_rows(sheet: Sheet) -> list[Finding]:
    """Rows whose text and label another row of the file has."""
    seen: dict[tuple[str, int], str] = {}
    places = []
    for row in sheet.examples:
        first = seen.setdefault((row.key, row.example.label), row.place)
        if first != row.place:
            places.append(f"{row.place} as {first}: {shortened(row.example.text)}")
    return finding("warning", "duplicate-row", f"{sheet.role}: rows that stand there already", places)


def conflicting_rows(sheets: Iterable[Sheet], label_names: Sequence[str]) -> list[Finding]:
    """Rows whose text another row has under another label, in either file."""
    seen: dict[str, PlacedExample] = {}
    places = []
    for row in (row for sheet in sheets for row in sheet.examples):
        first = seen.setdefault(row.key, row)
        if first.example.label != row.example.label:
            ours, theirs = label_names[row.example.label], label_names[first.example.label]
            places.append(f"{row.place} {ours!r}, {first.place} {theirs!r}: {shortened(row.example.text)}")
    return finding("warning", "conflicting-row", "the same text under another label", places)


def leaked_rows(train: Sheet, validation: Sheet) -> list[Finding]:
    """Validation rows whose text was trained on: their figure says less than it seems to."""
    trained = {row.key: row.place for row in reversed(train.examples)}
    places = [
        f"{row.place} as {trained[text]}: {shortened(row.example.text)}"
        for row in validation.examples
        if (text := row.key) in trained
    ]
    share = len(places) / max(1, len(validation.examples))
    message = f"validation: {100 * share:.1f} % of the texts are in the training rows too"
    return finding("warning", "leakage", message, places)


def empty_rows(sheet: Sheet) -> list[Finding]:
    """Rows with a field of nothing but space."""
    places = [
        f"{row.place}: field {name!r} is {value!r}"
        for row in sheet.examples
        for name, value in row.example.fields.items()
        if not value.strip()
    ]
    return finding("warning", "empty-text", f"{sheet.role}: empty fields", places)


def unprintable_rows(sheet: Sheet) -> list[Finding]:
    """Rows with control characters, or with ones that a broken conversion leaves."""
    places = []
    for row in sheet.examples:
        if (strange := _STRANGE.search(row.example.text)) is not None:
            places.append(f"{row.place}: U+{ord(strange[0]):04X} in {shortened(row.example.text)}")
    return finding("warning", "non-printable", f"{sheet.role}: characters that nobody typed", places)
