"""`check_rows`: all checks of a task's rows and labels before training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.data.sources import RowSources
from training.data.validation.findings import Finding, finding, shortened
from training.data.validation.labels import (
    label_counts,
    label_word_findings,
    typo_labels,
    uneven_labels,
    unknown_labels,
)
from training.data.validation.rows import (
    Sheet,
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

Pieces = Callable[[Sequence[str]], list[list[int]]]


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


def check_rows(
    task: TaskFile, sources: RowSources, *, pieces: Pieces, refusal: Callable[[], str | None]
) -> CheckedRows:
    """Read a task's files completely and check them.

    Args:
        pieces: the backbone's token ids of texts
        refusal: returns why no label trie can be built from the task's words, or None
    """
    train = read_sheet("train", sources.train, task)
    sheets = [train, *([read_sheet("validation", sources.validation, task)] if sources.validation else [])]
    counts = label_counts(train, task)
    found = [
        *unreadable_rows(sheets),
        *too_few_rows(train, has_validation=bool(sources.validation)),
        *(each for sheet in sheets for each in unknown_labels(sheet, task)),
        *label_word_findings(task.spec.label_words, pieces, refusal),
        *typo_labels(counts if task.spec.kind == "single_label" else {}),
        *uneven_labels(counts, is_ordinal=task.spec.kind == "ordinal"),
        *conflicting_rows(sheets, task.spec.label_names),
        *(leaked_rows(*sheets) if len(sheets) == 2 else []),
        *(each for sheet in sheets for each in repeated_rows(sheet)),
        *(each for sheet in sheets for each in empty_rows(sheet)),
        *(each for sheet in sheets for each in unprintable_rows(sheet)),
        *(each for sheet in sheets for each in _truncated_rows(sheet, task, pieces)),
    ]
    found.sort(key=lambda each: each.level)  # stable, and `error` sorts before `warning`
    notes = tuple(note for sheet in sheets for note in sheet.notes)
    return CheckedRows({sheet.role: len(sheet.examples) for sheet in sheets}, counts, tuple(found), notes)


def _truncated_rows(sheet: Sheet, task: TaskFile, pieces: Pieces) -> list[Finding]:
    """Find rows that training and evaluation truncate, and that a server truncates or rejects."""
    lengths = [len(ids) + 1 for ids in pieces([row.example.text for row in sheet.examples])]
    places = [
        f"{row.place}: {length} tokens, {shortened(row.example.text)}"
        for row, length in zip(sheet.examples, lengths, strict=True)
        if length > task.spec.max_tokens
    ]
    share = len(places) / max(1, len(lengths))
    message = f"{sheet.role}: {100 * share:.1f} % of the texts have more than {task.spec.max_tokens} tokens"
    return finding("warning", "truncated", message, places)
