"""Division of a task's rows into training, selection and report rows.

`honest` (default) selects the best epoch on rows held out of the training file and reports on the validation file.
`paper` selects and reports on the validation file, as SuperPos-Prompt's tables do; its figures are optimistic.
`kfold` reports each fold of the training file under a prompt trained on the other folds and selected on rows held out
of them; the validation file is not read.
Held-out rows and folds are stratified by label, and leave every label a training row if they can. No division of a file
separates rows of the same group or of equal texts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.data.corrections import with_corrections
from training.data.examples import Example, RowFile, text_key
from training.data.folds import Fold, deal, in_drawn_order, strata, whole_groups
from training.data.row_files import RowFiles
from training.data.sampling import (
    Groups,
    drawn_groups,
    first_groups,
    label_counts,
    of_each_label,
    quotas,
    stratified,
)
from training.data.sources import RowSources
from training.errors import InvalidData

Split = Literal["honest", "paper", "kfold"]

HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 500
DIVISION = "stratified"
"""The rule of division, which a run that is resumed must share: rows were drawn without strata before."""


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


def divide(
    files: RowFiles,
    *,
    split: Split,
    seed: int,
    limit: int | None = None,
    max_selection: int | None = None,
    max_report: int | None = None,
    fold: Fold | None = None,
    shots: int | None = None,
) -> SplitRows:
    """Divide a task's rows into roles. The examples are the same objects in every division.

    Args:
        seed: draws the held-out rows and the folds
        limit: maximum number of training rows, drawn by the seed with labels in proportion (`sampling.stratified`)
        max_selection: maximum number of selection rows
        max_report: maximum number of report rows, the same under every seed; with `paper`, also of selection rows
        fold: the fold to report; required by `kfold`, and only by it
        shots: number of training rows of each label, drawn by the seed; selection rows that are held out are limited to
            as many, as in LM-BFF (Gao et al. 2021, section 3), since more would not be few-shot (Perez et al. 2021)

    Raises:
        InvalidData: a file or row is invalid, too few rows are left, or a label has fewer training rows than `shots`
    """
    at_least_one = {"limit": limit, "max_selection": max_selection, "max_report": max_report, "shots": shots}
    for name, count in at_least_one.items():
        if count is not None and count < 1:
            raise InvalidData(f"{name} is {count}, expected at least 1 row")
    if (split == "kfold") != (fold is not None):
        raise InvalidData(f"split is {split!r} and fold {fold}: a fold belongs to split 'kfold'")
    read = {"train": files.train}
    if split != "kfold" and files.validation is not None:
        read["validation"] = files.validation
    report, groups = _report_and_rest(read, fold, seed, leave=1 if split == "paper" else 2)
    num_report = len(report)
    report = drawn_groups(report, max_report)
    selection = report
    if split != "paper":
        chosen, groups = _held_out(groups, files.train)
        selection = _rows(first_groups(chosen, max_selection))
    whole = _rows(groups)
    train = whole if limit is None else stratified(whole, limit)
    if shots is not None:
        if limit is not None:
            raise InvalidData(f"limit is {limit} and shots {shots}: both say how many rows to train on; expected one")
        train = files.shots_of(train, shots)
        selection = selection if split == "paper" else of_each_label(selection, shots)
    is_limited = shots is None and len(train) < len(whole)
    limited = {"limit": len(train)} if is_limited else {}
    notes = [note for file in read.values() for note in file.notes]
    corrected: dict[str, str | int] = {}
    corrections = files.corrections
    if corrections is not None:
        found = with_corrections(train, (*selection, *report), corrections.examples)
        train = found.rows
        corrected = {"corrections_file": corrections.path.name, "corrections_sha256": corrections.sha256}
        corrected |= {"corrections_rows": found.added}
        notes += [*corrections.notes, *found.notes(corrections.path)]
    described = {"split": split} | _fold_described(fold) | _described(read, files.sources, train, selection, report)
    described |= {} if shots is None else {"shots": shots}
    described |= limited | corrected
    if len(report) < num_report:
        described["report_drawn_from"] = num_report
    overlap = _overlap(train, report) if "validation" in read else 0  # a file's own parts never overlap
    if overlap:
        described["report_overlap"] = overlap
    return SplitRows(train, selection, report, described, (*notes, *files.division_notes(train, report, overlap)))


def _report_and_rest(
    files: dict[str, RowFile], fold: Fold | None, seed: int, *, leave: int
) -> tuple[tuple[Example, ...], Groups]:
    """Return the report rows, and the groups of the others in an order drawn by the seed, at least `leave`."""
    train = files["train"]
    if fold is not None:
        return _fold_out(train, fold, seed)
    groups = in_drawn_order(whole_groups(train.examples), seed)
    if "validation" in files:
        return files["validation"].examples, groups
    report, rest = _held_out(groups, train, leave=leave)
    return _rows(report), rest


def _fold_out(file: RowFile, fold: Fold, seed: int) -> tuple[tuple[Example, ...], Groups]:
    dealt = deal(file.examples, fold.of, seed=seed)
    if not all(dealt):
        raise InvalidData(f"{file.path}: {len(file.examples)} rows have too few groups for {fold.of} folds")
    rest = [example for index, part in enumerate(dealt, start=1) if index != fold.number for example in part]
    return tuple(dealt[fold.number - 1]), in_drawn_order(whole_groups(rest), seed)


def _held_out(groups: Groups, file: RowFile, *, leave: int = 1) -> tuple[Groups, Groups]:
    """Divide groups into a tenth of the rows, stratified by label, and the rest; both keep their order.

    Args:
        leave: the least number of groups in the rest
    """
    rows = _rows(groups)
    stratum = strata(rows)
    count = min(MAX_HELD_OUT, int(len(rows) * HELD_OUT_SHARE))
    if count < 1:
        raise InvalidData(f"{file.path}: {len(rows)} rows are too few to hold a tenth of them out")
    if len(groups) <= leave:
        raise InvalidData(
            f"{file.path}: a tenth of {len(rows)} rows in whole groups is {len(rows)} rows, which leaves no "
            "training rows"
        )
    wanted, left = quotas(Counter(map(stratum, rows)), count), label_counts(rows)
    taken: set[int] = set()

    def may_go(index: int) -> bool:
        """Whether every label of the group keeps a row in another one."""
        return all(left[label] > held for label, held in label_counts(groups[index]).items())

    # each label up to its share; then, for lack of such groups, any that leaves every label a row; then any
    for is_fit in (
        lambda index: wanted[Counter(map(stratum, groups[index])).most_common(1)[0][0]] > 0 and may_go(index),
        may_go,
        lambda index: True,
    ):
        for index in range(len(groups)):
            if count <= 0 or len(groups) - len(taken) <= leave:
                break
            if index not in taken and is_fit(index):
                taken.add(index)
                count -= len(groups[index])
                wanted.subtract(Counter(map(stratum, groups[index])))
                left.subtract(label_counts(groups[index]))
    held = [group for index, group in enumerate(groups) if index in taken]
    return held, [group for index, group in enumerate(groups) if index not in taken]


def _rows(groups: Groups) -> tuple[Example, ...]:
    return tuple(example for group in groups for example in group)


def _overlap(train: Sequence[Example], report: Sequence[Example]) -> int:
    """Count the report rows with the text of a training row."""
    trained = {text_key(example.text) for example in train}
    return sum(text_key(example.text) in trained for example in report)


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
    described["division"] = DIVISION
    counts = {"train_rows": len(train), "selection_rows": len(selection), "report_rows": len(report)}
    return described | counts


def _fold_described(fold: Fold | None) -> dict[str, str | int]:
    return {} if fold is None else {"fold": fold.number, "folds": fold.of}
