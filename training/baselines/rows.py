"""Rows of a run as its baselines read them: texts for a bag of words, tokens for the frozen model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.examples import Example
from training.scoring.evaluation import TokenizedRows


@dataclass(frozen=True, slots=True)
class TextRows:
    """The rows of one role."""

    texts: tuple[str, ...]
    """The fields of each row, joined; without the words of the template, which all rows share."""
    tokenized: TokenizedRows

    @classmethod
    def of(cls, examples: Sequence[Example], tokenized: TokenizedRows) -> "TextRows":
        """Combine examples with their tokens."""
        return cls(tuple("\n".join(example.fields.values()) or example.text for example in examples), tokenized)

    def first(self, count: int) -> "TextRows":
        """Return the first rows, at most `count`."""
        if len(self.texts) <= count:
            return self
        return TextRows(self.texts[:count], self.tokenized.at(range(count)))

    def joined(self, others: "TextRows") -> "TextRows":
        """Return these rows, followed by others of the same task."""
        return TextRows((*self.texts, *others.texts), self.tokenized.joined(others.tokenized))

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRows:
    """The rows of a run by role."""

    train: TextRows
    selection: TextRows
    report: TextRows
    folds: NDArray[np.int64] | None = None  # [n]
    """The fold of each of the rows that are fitted, where rows are few; None if the selection rows choose."""

    @property
    def fitted(self) -> TextRows:
        """The rows that baselines are fitted to: training rows; where rows are few, followed by selection rows."""
        return self.train if self.folds is None else self.train.joined(self.selection)
