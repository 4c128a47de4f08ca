"""Division of a task's rows into training, selection and report rows.

`honest` (default) selects the best epoch on rows held out of the training file and reports on the validation file.
`paper` selects and reports on the validation file, as SuperPos-Prompt's tables do; its figures are optimistic.
`kfold` reports each fold of the training file under a prompt trained on the other folds and selected on rows held out
of them; the validation file is not read.
No split separates rows of the same group.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from training.data.examples import Example, RowFile, read_shards, sum_of
from training.data.folds import Fold, deal, whole_groups
from training.data.sources import RowSources, locate
from training.errors import InvalidData
from training.task.task_file import DataSource, TaskFile

Split = Literal["honest", "paper", "kfold"]

HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 500


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of a run by role."""

    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    report: tuple[Example, ...]
    described: dict[str, str | int]
    """File names, row counts and SHA-256 sums, for the adapter's provenance."""
    notes: tuple[str, ...] = ()
    """Notes for the author on the files and the division, one line each."""


class RowFiles:
    """A task's files, each read once, on first use."""

    def __init__(self, task: TaskFile) -> None:
        """Find the files.

        Raises:
            InvalidData: there are no files. Reading `train` or `validation`: a file or row is invalid
        """
        self._task = task
        self.sources = locate(task.data)

    @cached_property
    def train(self) -> RowFile:
        """The rows for training and for holding out."""
        return read_shards(self.sources.train, self._task)

    @cached_property
    def validation(self) -> RowFile | None:
        """The rows of the validation file; None if the task has none."""
        return read_shards(self.sources.validation, self._task) if self.sources.validation else None


def divide(
    files: RowFiles,
    *,
    split: Split,
    seed: int,
    limit: int | None = None,
    max_selection: int | None = None,
    max_report: int | None = None,
    fold: Fold | None = None,
) -> SplitRows:
    """Divide a task's rows into roles. The examples are the same objects in every division.

    Args:
        seed: draws the held-out rows and the folds
        limit: maximum number of training rows, drawn by the seed
        max_selection: maximum number of selection rows
        max_report: maximum number of report rows, the same under every seed; with `paper`, also of selection rows
        fold: the fold to report; required by `kfold`, and only by it

    Raises:
        InvalidData: a file or row is invalid, or too few rows are left
    """
    for name, count in (("limit", limit), ("max_selection", max_selection), ("max_report", max_report)):
        if count is not None and count < 1:
            raise InvalidData(f"{name} is {count}, expected at least 1 row")
    if (split == "kfold") != (fold is not None):
        raise InvalidData(f"split is {split!r} and fold {fold}: a fold belongs to split 'kfold'")
    read = {"train": files.train}
    if split != "kfold" and files.validation is not None:
        read["validation"] = files.validation
    report, rows = _report_and_rest(read, fold, seed)
    num_report = len(report)
    report = _drawn(report, max_report)
    selection = report
    if split != "paper":
        selection, rows = _held_out(rows, files.train)
        selection = selection[: None if max_selection is None else _whole_groups_end(selection, max_selection)]
    train = tuple(rows[:limit])
    described = {"split": split} | _fold_described(fold) | _described(read, files.sources, train, selection, report)
    if len(report) < num_report:
        described["report_drawn_from"] = num_report
    notes = tuple(note for file in read.values() for note in file.notes)
    return SplitRows(train, selection, report, described, notes)


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
    return {
        name: sum_of(paths) if paths else None for name, paths in files.items() if all(path.is_file() for path in paths)
    }


def _report_and_rest(
    files: dict[str, RowFile], fold: Fold | None, seed: int
) -> tuple[tuple[Example, ...], list[Example]]:
    """Return the report rows, and the others in an order drawn by the seed."""
    train = files["train"]
    if fold is not None:
        return _fold_out(train, fold, seed)
    rows = _in_drawn_order(train.examples, seed)
    return (files["validation"].examples, rows) if "validation" in files else _held_out(rows, train)


def _drawn(examples: tuple[Example, ...], count: int | None) -> tuple[Example, ...]:
    """Choose at most `count` rows in whole groups, in order and always the same ones."""
    if count is None or count >= len(examples):
        return examples
    groups: dict[int | str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(i if example.group is None else example.group, []).append(i)
    drawn = list(groups.values())
    random.Random(0).shuffle(drawn)
    chosen: list[int] = []
    for group in drawn:
        if chosen and len(chosen) + len(group) > count:
            break
        chosen += group
    return tuple(examples[i] for i in sorted(chosen))


def _in_drawn_order(examples: tuple[Example, ...], seed: int) -> list[Example]:
    """Return the rows in an order drawn by the seed, each group together."""
    return [example for group in whole_groups(examples, seed=seed) for example in group]


def _fold_out(file: RowFile, fold: Fold, seed: int) -> tuple[tuple[Example, ...], list[Example]]:
    dealt = deal(file.examples, fold.of, seed=seed)
    if not all(dealt):
        raise InvalidData(f"{file.path}: {len(file.examples)} rows have too few groups for {fold.of} folds")
    rest = [example for index, part in enumerate(dealt, start=1) if index != fold.number for example in part]
    return tuple(dealt[fold.number - 1]), _in_drawn_order(tuple(rest), seed)


def _held_out(rows: list[Example], file: RowFile) -> tuple[tuple[Example, ...], list[Example]]:
    count = min(MAX_HELD_OUT, int(len(rows) * HELD_OUT_SHARE))
    if count < 1:
        raise InvalidData(f"{file.path}: {len(rows)} rows are too few to hold a tenth of them out")
    end = _whole_groups_end(rows, count)
    if end == len(rows):
        raise InvalidData(
            f"{file.path}: a tenth of {len(rows)} rows in whole groups is {end} rows, which leaves no training rows"
        )
    return tuple(rows[:end]), rows[end:]


def _whole_groups_end(rows: Sequence[Example], count: int) -> int:
    """Return the end of the first `count` rows, extended to the end of the last one's group."""
    while count < len(rows) and rows[count].group is not None and rows[count].group == rows[count - 1].group:
        count += 1
    return count


def _described(
    files: dict[str, RowFile],
    sources: RowSources,
    train: tuple[Example, ...],
    selection: tuple[Example, ...],
    report: tuple[Example, ...],
) -> dict[str, str | int]:
    described: dict[str, str | int] = dict(sources.described)
    for role, file in files.items():
        described[f"{role}_file"] = file.path.name
        described[f"{role}_sha256"] = file.sha256
    counts = {"train_rows": len(train), "selection_rows": len(selection), "report_rows": len(report)}
    return described | counts


def _fold_described(fold: Fold | None) -> dict[str, str | int]:
    return {} if fold is None else {"fold": fold.number, "folds": fold.of}
