"""Which rows train, which choose the best epoch, and which are reported.

`honest` (default) chooses on rows held out of the training file and reports on the validation file, seen once.
`paper` chooses and reports on the validation file, as SuperPos-Prompt's table does: its figures flatter.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.data import Example, RowFile, read_examples
from training.errors import InvalidData
from training.task_file import TaskFile

Split = Literal["honest", "paper"]

HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 500


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of a run in their three roles."""

    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    report: tuple[Example, ...]
    described: dict[str, str | int]
    """File names, row counts and sha256 sums, for the adapter's provenance."""


def read_split(
    task: TaskFile,
    *,
    split: Split,
    seed: int,
    limit: int | None = None,
    max_selection: int | None = None,
    max_report: int | None = None,
) -> SplitRows:
    """Read a task's files and divide their rows.

    Args:
        seed: draws the held-out rows
        limit: use at most so many training rows, drawn by the seed
        max_selection: use at most so many of the held-out rows
        max_report: report on at most so many rows, the same ones under every seed; under `paper` they choose as well

    Raises:
        InvalidData: a file or row is bad, or too few rows are left
    """
    for name, count in (("limit", limit), ("max_selection", max_selection), ("max_report", max_report)):
        if count is not None and count < 1:
            raise InvalidData(f"{name} is {count}, expected at least 1 row")
    train_file = read_examples(Path(task.data.train), task)
    rows = list(train_file.examples)
    random.Random(seed).shuffle(rows)
    files = {"train": train_file}
    if task.data.validation is None:
        report, rows = _held_out(rows, train_file.path)
    else:
        files["validation"] = read_examples(Path(task.data.validation), task)
        report = files["validation"].examples
    num_report = len(report)
    report = _drawn(report, max_report)
    selection = report
    if split == "honest":
        selection, rows = _held_out(rows, train_file.path)
        selection = selection[:max_selection]
    train = tuple(rows[:limit])
    described = _described(files, split, train, selection, report)
    if len(report) < num_report:
        described["report_drawn_from"] = num_report
    return SplitRows(train, selection, report, described)


def _drawn(examples: tuple[Example, ...], count: int | None) -> tuple[Example, ...]:
    """At most so many of the rows, whole groups of them, in their order and always the same ones."""
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


def _held_out(rows: list[Example], path: Path) -> tuple[tuple[Example, ...], list[Example]]:
    count = min(MAX_HELD_OUT, int(len(rows) * HELD_OUT_SHARE))
    if count < 1:
        raise InvalidData(f"{path}: {len(rows)} rows are too few to hold a tenth of them out")
    return tuple(rows[:count]), rows[count:]


def _described(
    files: dict[str, RowFile],
    split: Split,
    train: tuple[Example, ...],
    selection: tuple[Example, ...],
    report: tuple[Example, ...],
) -> dict[str, str | int]:
    described: dict[str, str | int] = {"split": split}
    for role, file in files.items():
        described[f"{role}_file"] = file.path.name
        described[f"{role}_sha256"] = file.sha256
    counts = {"train_rows": len(train), "selection_rows": len(selection), "report_rows": len(report)}
    return described | counts
