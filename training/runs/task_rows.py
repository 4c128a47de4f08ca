"""A task's rows for training: files are read once and each row is tokenised once, for every seed and fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone, TokenizedText
from training.baselines.rows import BaselineRows, TextRows
from training.data.examples import Example
from training.data.few_rows import few_row_folds
from training.data.folds import Fold
from training.data.row_files import RowFiles
from training.data.splits import Split, divide
from training.scoring.evaluation import TokenizedRows, example_texts
from training.scoring.out_of_fold import scorable
from training.task.task_file import TaskFile

_AT_ONCE = 4_096
"""Rows per call of the tokenizer, whose intermediate results take far more memory than the ids."""


@dataclass(frozen=True, slots=True)
class RunRows:
    """The tokenised rows of a run."""

    train: TokenizedRows
    selection: TokenizedRows
    report: TokenizedRows
    train_examples: tuple[Example, ...]
    selection_examples: tuple[Example, ...]
    report_examples: tuple[Example, ...]
    described: dict[str, str | int]
    notes: tuple[str, ...] = ()
    """Notes for the author on the rows, one line each."""

    @property
    def folds(self) -> NDArray[np.int64] | None:
        """The fold of each training row, then of each selection row, for models that are fitted to few rows.

        None if the rows are not few, if folds cannot score any, or if the selection rows are those that are reported,
        which nothing may be fitted to.
        """
        if self.selection_examples == self.report_examples:
            return None
        folds = few_row_folds(self.train_examples, self.selection_examples)
        if folds is None or not len(scorable(np.concatenate([self.train.labels, self.selection.labels]), folds)):
            return None
        return folds

    @property
    def for_baselines(self) -> BaselineRows:
        """The rows as baselines read them."""
        return BaselineRows(
            train=TextRows.of(self.train_examples, self.train),
            selection=TextRows.of(self.selection_examples, self.selection),
            report=TextRows.of(self.report_examples, self.report),
            folds=self.folds,
        )


_Division = tuple[Split, int, int | None, int | None, int | None, int | None, Fold | None]


class TaskRows:
    """The rows of one task, tokenised for one backbone. Seeds and folds share each row's token ids."""

    def __init__(self, backbone: Backbone, task: TaskFile) -> None:
        """Find the files of the rows; they are read by the first `divided`.

        Raises:
            InvalidData: the files do not exist
            backbone.InvalidLabels: the backbone's tokenizer cannot tell the label words apart
        """
        backbone.label_trie(task.spec.label_words)  # raises before rows are read
        self._backbone, self._spec = backbone, task.spec
        self._files = RowFiles(task)
        self._texts: dict[int, TokenizedText] = {}
        """By the `id()` of the example, which lives as long as the files."""
        self._token_ids: dict[int, int] = {}
        """One integer object per token id: a row is a tuple of references to them, at 8 bytes per token."""
        self._divided: dict[_Division, RunRows] = {}

    def divided(
        self,
        *,
        split: Split,
        seed: int,
        limit: int | None,
        shots: int | None = None,
        max_selection: int | None = None,
        max_report: int | None = None,
        fold: Fold | None = None,
    ) -> RunRows:
        """Return a run's training, selection and report rows; arguments and errors as `divide` and `RowFiles`."""
        asked = (split, seed, limit, shots, max_selection, max_report, fold)
        if asked not in self._divided:
            rows = divide(
                self._files,
                split=split,
                seed=seed,
                limit=limit,
                shots=shots,
                max_selection=max_selection,
                max_report=max_report,
                fold=fold,
            )
            train, selection, report = map(self._tokenized, (rows.train, rows.selection, rows.report))
            self._divided[asked] = RunRows(
                train=train,
                selection=selection,
                report=report,
                train_examples=rows.train,
                selection_examples=rows.selection,
                report_examples=rows.report,
                described=rows.described,
                notes=rows.notes,
            )
        return self._divided[asked]

    def _tokenized(self, examples: Sequence[Example]) -> TokenizedRows:
        new = [example for example in examples if id(example) not in self._texts]
        for start in range(0, len(new), _AT_ONCE):
            self._tokenize(new[start : start + _AT_ONCE])
        return TokenizedRows.of(examples, [self._texts[id(example)] for example in examples], spec=self._spec)

    def _tokenize(self, examples: Sequence[Example]) -> None:
        texts = example_texts(self._backbone, self._spec, examples)
        for example, text in zip(examples, texts, strict=True):
            shared = tuple(self._token_ids.setdefault(token, token) for token in text.token_ids)
            self._texts[id(example)] = replace(text, token_ids=shared)
