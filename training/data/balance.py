"""Balancing of rare labels, by how often rows are drawn or by the weight of their loss."""

import numpy as np
from numpy.typing import NDArray


def balanced_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw the row indices of an epoch, [n], with every label equally often to within one row.

    The rows of a label are taken in random order, and again in another random order until its share is filled. Rows
    with a rare label occur several times per epoch, and some rows with a common label not at all.

    Args:
        labels: the labels of the training rows, [n]
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
    """Return the loss weight of each label, [K]: w_y = n / (C · n_y), and 0 for a label without rows.

    n is the number of training rows, n_y the number with label y, and C the number of labels that occur (`balanced` in
    scikit-learn). The loss of a step is the mean of w_y · −log p(y) over its rows; the mean weight of the training rows
    is 1.
    """
    counts = np.bincount(labels, minlength=num_labels)
    present = counts > 0
    weights = np.zeros(num_labels)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def decision_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the loss weights of a multi-label task's decisions, [2, K]: of rows without each label, of rows with it.

    Each label is balanced by itself, as `balanced` in scikit-learn with one label against the rest: w = n / (2 · n_k)
    for the n_k rows with it, and the same for the others. A label that all rows have, or none, has weights of 1.

    Args:
        labels: [n, K] of 0 and 1
    """
    positives = labels.sum(axis=0)
    counts = np.stack([len(labels) - positives, positives])
    weights: NDArray[np.float64] = len(labels) / (2 * np.maximum(counts, 1))
    weights[:, (counts == 0).any(axis=0)] = 1.0
    return weights
