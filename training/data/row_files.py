"""`RowFiles`: the files of a task's rows, each read once, and what is known of them."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from training.data.corrections import read_corrections
from training.data.examples import Example, RowFile, read_shards, sum_of
from training.data.sampling import of_each_label
from training.data.sources import locate
from training.errors import InvalidData, TooFewRows
from training.task.task_file import DataSource, TaskFile


class RowFiles:
    """A task's files, each read once, on first use."""

    def __init__(self, task: TaskFile) -> None:
        """Find the files.

        Raises:
            InvalidData: there are no files. Reading `train` or `validation`: a file or row is invalid
        """
        self.task = task
        self.sources = locate(task.data)

    @cached_property
    def train(self) -> RowFile:
        """The rows for training and for holding out."""
        return read_shards(self.sources.train, self.task)

    def division_notes(self, train: Sequence[Example], report: Sequence[Example], overlap: int) -> list[str]:
        """Return notes on labels without rows, and on report rows that are also training rows."""
        names = self.task.spec.label_names
        notes = []
        for role, rows in (("training", train), ("report", report)):
            present = {label for example in rows for label in example.labels}
            absent = [repr(name) for index, name in enumerate(names) if index not in present]
            if absent and self.task.spec.kind != "ordinal":
                named = ", ".join(absent[:5]) + ", …" * (len(absent) > 5)
                notes.append(f"{self.task.name}: {len(absent)} of {len(names)} labels without a {role} row: {named}")
        if overlap:
            share = f"{overlap} of {len(report)} report rows"
            notes.append(f"{self.task.name}: {share} have the text of a training row, which makes scores optimistic")
        return notes

    def shots_of(self, train: Sequence[Example], shots: int) -> tuple[Example, ...]:
        """Return the first `shots` rows of each label (`TooFewRows` if a label has fewer)."""
        spec = self.task.spec
        if spec.is_multi_label:
            raise InvalidData(
                f"task {self.task.name!r} is multi_label: its rows have no single label for shots; omit it"
            )
        counts = Counter(example.label for example in train)
        few = [f"{name!r} has {counts[i]}" for i, name in enumerate(spec.label_names) if counts[i] < shots]
        if few:
            named = ", ".join(few[:5]) + ", …" * (len(few) > 5)
            raise TooFewRows(f"{self.train.path}: shots is {shots}, but too few training rows: label {named}")
        return of_each_label(train, shots)

    @cached_property
    def validation(self) -> RowFile | None:
        """The rows of the validation file; None if the task has none."""
        return read_shards(self.sources.validation, self.task) if self.sources.validation else None

    @cached_property
    def corrections(self) -> RowFile | None:
        """Further training rows; None if the task has none."""
        path = self.task.data.corrections
        return None if path is None else read_corrections(Path(path), self.task)


def sums_at_hand(data: DataSource) -> dict[str, str | None]:
    """Return the sums of a task's local files, by the names in `SplitRows.described`, without reading a row.

    A role without a file has the value None. Missing files and files on the Hub are omitted.
    """
    if data.hub is not None:
        return {}
    try:
        sources = locate(data)
    except InvalidData:
        return {}
    files = {"train_sha256": sources.train, "validation_sha256": sources.validation}
    files |= {} if data.corrections is None else {"corrections_sha256": (Path(data.corrections),)}
    return {
        name: sum_of(paths) if paths else None for name, paths in files.items() if all(path.is_file() for path in paths)
    }
