"""Labels that some rows are rare of, made to count alike: by how often rows are drawn, or by what their loss weighs."""

import numpy as np
from numpy.typing import NDArray


def balanced_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """An epoch's row numbers [n] in which every label that occurs is drawn equally often, to within one row.

    A label's rows are gone through in a drawn order, and again in another where that is not enough: a rare label's
    rows come several times an epoch, some of a common label's not at all.

    Args:
        labels: of the training rows, [n]
    """
    present = np.unique(labels)
    share, rest = divmod(len(labels), len(present))
    with_one_more = set(generator.permutation(present)[:rest].tolist())
    drawn = []
    for label in present.tolist():
        rows = np.flatnonzero(labels == label)
        quota = share + (label in with_one_more)
        rounds = [generator.permutation(rows) for _ in range(-(-quota // len(rows)))]
        drawn.append(np.concatenate([*rounds, rows[:0]])[:quota])
    return generator.permutation(np.concatenate(drawn)).astype(np.int64)


def label_weights(labels: NDArray[np.int64], *, num_labels: int) -> NDArray[np.float64]:
    """What a row's loss is multiplied by, for each label [K]: w_y = n / (C · n_y), 0 for a label without rows.

    n is the number of training rows, n_y that of label y's, C that of labels that occur (scikit-learn's `balanced`). A
    step's loss is the mean of w_y · −log p(y) over its rows; over the training rows the mean weight is 1.
    """
    counts = np.bincount(labels, minlength=num_labels)
    present = counts > 0
    weights = np.zeros(num_labels)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
