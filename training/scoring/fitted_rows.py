"""The rows that a head was fitted to where they are few, as an adapter's provenance records them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reports read this without torch
    from training.scoring.evaluation import TokenizedRows
    from training.scoring.out_of_fold import OutOfFold

_ROWS, _FEWEST, _MOST, _FOLDS, _SCORED = (
    "fitted_rows",
    "fitted_rows_per_label_min",
    "fitted_rows_per_label_max",
    "selection_folds",
    "out_of_fold_rows",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRows:
    """The training and selection rows, to all of which the head was fitted."""

    num_rows: int
    fewest: int
    """Rows of the rarest label that occurs."""
    most: int
    """Rows of the most common label."""
    num_folds: int
    """Folds whose predictions chose the regularisation and the calibration."""
    num_scored: int
    """Rows that could be predicted out of fold."""

    @classmethod
    def of(cls, rows: "TokenizedRows", out_of_fold: "OutOfFold") -> "FittedRows":
        """Count the rows of a head."""
        counts = [count for count in rows.label_counts() if count]
        return cls(
            num_rows=len(rows),
            fewest=min(counts, default=0),
            most=max(counts, default=0),
            num_folds=out_of_fold.num_folds,
            num_scored=len(out_of_fold.rows),
        )

    @classmethod
    def read(cls, data: Mapping[str, object]) -> "FittedRows | None":
        """Invert `described`; None for another model, which was fitted to the training rows alone."""
        values = [data.get(name) for name in (_ROWS, _FEWEST, _MOST, _FOLDS, _SCORED)]
        if not all(isinstance(value, int) for value in values):
            return None
        num_rows, fewest, most, num_folds, num_scored = (int(str(value)) for value in values)
        return cls(num_rows=num_rows, fewest=fewest, most=most, num_folds=num_folds, num_scored=num_scored)

    def described(self) -> dict[str, int]:
        """Return the entries of a provenance's `data`."""
        return {
            _ROWS: self.num_rows,
            _FEWEST: self.fewest,
            _MOST: self.most,
            _FOLDS: self.num_folds,
            _SCORED: self.num_scored,
        }

    def told(self, *, train: object, selection: object) -> str:
        """Return how many rows the head was fitted to, in words.

        Args:
            train: number of training rows among them
            selection: number of selection rows among them
        """
        of_each = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{self.num_rows} fitted ({train} training and {selection} selection rows; {of_each} of each label)"

    @property
    def meaning(self) -> str:
        """How the regularisation was chosen, in one clause."""
        rows = "the training and selection rows"
        if self.num_scored < self.num_rows:
            rows = f"{self.num_scored} of {rows}, those with a label that occurs in another fold,"
        return (
            f"the regularisation was chosen by out-of-fold predictions of {rows} in {self.num_folds} folds, and the "
            "head was then fitted to all of them"
        )
