"""Faults of rows: those that cannot be read, that stand twice, that contradict each other, that say nothing."""

import re
from collections.abc import Iterable, Sequence

from training.rows.checks.findings import Finding, finding, shortened
from training.rows.checks.sheets import PlacedExample, Sheet
from training.rows.splits import HELD_OUT_SHARE

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
