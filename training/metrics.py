"""What a set of predictions is worth, and what a constant answer would have been worth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures over n rows; shares are in [0, 1]."""

    accuracy: float
    macro_f1: float
    loss: float
    """Mean negative log-likelihood of the right label, in nats."""
    constant_accuracy: float
    """The accuracy of always answering the commonest label: a score near it says that nothing was learnt."""
    collapsed: bool
    """Every row got the same answer."""

    def figures(self) -> dict[str, float]:
        """The numbers by name."""
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "loss": self.loss,
            "constant_accuracy": self.constant_accuracy,
        }


def measure(
    log_probs: NDArray[np.float32],  # [n, K]
    labels: NDArray[np.int64],  # [n]
) -> Metrics:
    """Compare predictions with labels."""
    predicted = log_probs.argmax(axis=1)
    counts = np.bincount(labels, minlength=log_probs.shape[1])
    return Metrics(
        accuracy=float((predicted == labels).mean()),
        macro_f1=_macro_f1(predicted, labels),
        loss=float(-log_probs[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        constant_accuracy=float(counts.max() / len(labels)),
        collapsed=len(np.unique(predicted)) == 1,
    )


def _macro_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Unweighted mean of F1 over the labels that occur in either (as scikit-learn does)."""
    scores = []
    for label in np.union1d(predicted, labels):
        hits = int(((predicted == label) & (labels == label)).sum())
        scores.append(2 * hits / int((predicted == label).sum() + (labels == label).sum()))
    return float(np.mean(scores))
