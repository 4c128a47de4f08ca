"""Corrections of a server's answers as further training rows: a file that `superpos feedback export` writes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.examples import Example, RowFile, example_of, sum_of, task_rows, text_key
from training.errors import InvalidData
from training.task.task_file import TaskFile

LABEL = "label"
INPUT = "input"
"""Columns of an export: the right label, and an object with the text of each field."""


@dataclass(frozen=True, slots=True)
class CorrectedRows:
    """Training rows with corrections among them."""

    rows: tuple[Example, ...]
    added: int
    """Corrections among the rows."""
    replaced: int
    """Training rows that a correction of the same text replaces."""
    held: int
    """Corrections that are left out, since the selection or report rows have their texts."""

    def notes(self, path: Path) -> list[str]:
        """Return notes for the author, one line each."""
        replaced = f", {self.replaced} instead of a training row with the same text" if self.replaced else ""
        found = [f"{path.name}: {self.added} corrections are trained on{replaced}"]
        if self.held:
            why = "selection or report rows have their texts"
            found.append(f"{path.name}: {self.held} corrections are left out: {why}")
        return found


def read_corrections(path: Path, task: TaskFile) -> RowFile:
    """Read the corrections of a task. Those with a label that the task does not have are left out, with a note.

    Raises:
        InvalidData: the file cannot be read, or a row is invalid; names the row (counted from 1) and the field
    """
    columns = {name: f"{INPUT}.{name}" for name in task.spec.fields}
    own = {"columns": columns, "label": LABEL, "label_values": {}, "group": None, "separator": None, "encoding": None}
    exported = task.model_copy(update={"data": task.data.model_copy(update=own)})
    examples: list[Example] = []
    unknown: Counter[str] = Counter()
    for where, row in task_rows(path, exported):
        strange = [name for name in _named(row, f"{path}: {where}") if name not in task.spec.label_names]
        if strange:
            unknown[strange[0]] += 1
        else:
            examples.append(example_of(row, f"{path}: {where}", exported))
    notes = []
    if unknown:
        named = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(5))
        notes.append(f"{path.name}: {unknown.total()} corrections are left out: the task has no label {named}")
    return RowFile(path, tuple(examples), sum_of([path]), tuple(notes))


def with_corrections(
    train: Sequence[Example], held: Sequence[Example], corrections: Sequence[Example]
) -> CorrectedRows:
    """Add corrections to training rows. A correction replaces the training rows with its text.

    Args:
        train: the training rows
        held: selection and report rows, whose texts must not be trained on
        corrections: of the task, the latest first; of equal texts the latest counts
    """
    not_trained = {text_key(example.text) for example in held}
    latest: dict[str, Example] = {}
    for example in corrections:
        latest.setdefault(text_key(example.text), example)
    added = {key: example for key, example in latest.items() if key not in not_trained}
    kept = tuple(example for example in train if text_key(example.text) not in added)
    return CorrectedRows((*kept, *added.values()), len(added), len(train) - len(kept), len(latest) - len(added))


def _named(row: Mapping[str, object], where: str) -> list[str]:
    """Return the labels that a correction names."""
    label = row.get(LABEL)
    names = [label] if isinstance(label, str) else label
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise InvalidData(f"{where}: field {LABEL!r} is {label!r}, expected a label or a list of labels")
