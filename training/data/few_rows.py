"""Few rows: when they are few, and the folds by which they are cross-validated then.

A tenth of few rows is a handful, which neither chooses a regularisation nor calibrates well, and which the classifier
would lack. Where a fit takes seconds, out-of-fold predictions do both, and the classifier is fitted to all rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.examples import Example
from training.data.folds import deal

FEW_PER_LABEL = 300
"""With fewer training and selection rows per label, on average over the labels that occur, rows are few. Heads were
measured to gain from folds up to 256 of them."""
MIN_SELECTION_ROWS = 50
"""With fewer selection rows, rows are few however many there are per label."""
MAX_FEW_ROWS = 4_096
"""More rows than these are never few: fitting every fold would take minutes."""
MAX_FEW_SCORES = 200_000
"""Nor are rows few if rows × labels exceed this: the time of a fit grows with it. With 77 labels that is 2,597 rows."""
NUM_FOLDS = 5


def few_row_folds(train: Sequence[Example], selection: Sequence[Example]) -> NDArray[np.int64] | None:
    """Return the fold of each training row, then of each selection row, [n], counted from 0.

    Folds are stratified by label and separate neither a group nor equal texts (`training.data.folds.deal`).

    Returns:
        None if the rows are not few, or all of them are one group
    """
    examples = (*train, *selection)
    if not _are_few(examples, num_selection=len(selection)):
        return None
    parts = [part for part in deal(examples, NUM_FOLDS, seed=0) if part]
    if len(parts) < 2:
        return None
    fold_of = {id(example): fold for fold, part in enumerate(parts) for example in part}
    return np.array([fold_of[id(example)] for example in examples], dtype=np.int64)


def _are_few(examples: Sequence[Example], *, num_selection: int) -> bool:
    # with more rows to choose by than to train on, a limit of training rows was asked for
    if len(examples) > MAX_FEW_ROWS or 2 * num_selection > len(examples):
        return False
    num_labels = len({label for example in examples for label in example.labels})
    if len(examples) * num_labels > MAX_FEW_SCORES:
        return False
    return num_selection < MIN_SELECTION_ROWS or len(examples) < FEW_PER_LABEL * num_labels
