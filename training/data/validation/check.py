"""`check_rows`: all checks of a task's rows and labels before training."""

from dataclasses import dataclass

from training.data.sources import RowSources
from training.data.validation.findings import Finding
from training.data.validation.labels import (
    few_labels,
    label_counts,
    label_word_findings,
    typo_labels,
    uneven_labels,
    unknown_labels,
)
from training.data.validation.pieces import ModelView, model_findings
from training.data.validation.rows import (
    conflicting_rows,
    empty_rows,
    leaked_rows,
    read_sheet,
    repeated_rows,
    too_few_rows,
    unprintable_rows,
    unreadable_rows,
)
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The counts and findings of a check, errors first."""

    rows: dict[str, int]
    """Examples by role."""
    labels: dict[str, int]
    """Training rows by label."""
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """How the files were read, if not in the usual way of their type."""

    @property
    def num_errors(self) -> int:
        """The number of findings that prevent training."""
        return sum(each.level == "error" for each in self.findings)


def check_rows(task: TaskFile, sources: RowSources, *, view: ModelView) -> CheckedRows:
    """Read a task's files completely and check them, as text and as the backbone reads them."""
    train = read_sheet("train", sources.train, task)
    sheets = [train, *([read_sheet("validation", sources.validation, task)] if sources.validation else [])]
    counts = label_counts(train, task)
    found = [
        *unreadable_rows(sheets),
        *too_few_rows(train, has_validation=bool(sources.validation)),
        *(each for sheet in sheets for each in unknown_labels(sheet, task)),
        *label_word_findings(task.spec.label_words, view, are_scored=not task.spec.is_multi_label),
        *typo_labels({} if task.spec.kind == "ordinal" else counts),
        *uneven_labels(counts, kind=task.spec.kind, num_rows=len(train.examples)),
        *(each for sheet in sheets for each in few_labels(sheet) if task.spec.is_multi_label),
        *conflicting_rows(sheets, task.spec.label_names),
        *(leaked_rows(*sheets) if len(sheets) == 2 else []),
        *(each for sheet in sheets for each in repeated_rows(sheet)),
        *(each for sheet in sheets for each in empty_rows(sheet)),
        *(each for sheet in sheets for each in unprintable_rows(sheet)),
        *model_findings(sheets, view, max_tokens=task.spec.max_tokens),
    ]
    found.sort(key=lambda each: each.level)  # stable, and `error` sorts before `warning`
    notes = tuple(note for sheet in sheets for note in sheet.notes)
    return CheckedRows({sheet.role: len(sheet.examples) for sheet in sheets}, counts, tuple(found), notes)
