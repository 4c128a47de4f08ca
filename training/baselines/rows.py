"""Rows of a run as its baselines read them: texts for a bag of words, tokens for the frozen model."""

from collections.abc import Sequence
from dataclasses import dataclass

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
        rows = self.tokenized
        groups = None if rows.groups is None else rows.groups[:count]
        return TextRows(self.texts[:count], TokenizedRows(rows.token_ids[:count], rows.labels[:count], 0, groups))

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRows:
    """The rows of a run by role."""

    train: TextRows
    selection: TextRows
    report: TextRows
