"""Statistics of a run's answers: by label, by confidence, and the worst rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from training.scoring.calibration import ECE_BINS, calibration_error, confidence_and_outcome
from training.scoring.decisions import Labels, are_same
from training.scoring.multi_label import binary_loss, label_figures
from training.scoring.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """One label over the report rows; 0 where a share has nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Rows whose right label it is."""
    threshold: float | None = None
    """Multi-label tasks: the probability from which on a row gets the label."""
    average_precision: float | None = None
    """Multi-label tasks: None without a row that has the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """A right label and the wrong one that was given instead."""

    right: str
    given: str
    rows: int
    share: float
    """Share of the right label's rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Confidence against accuracy in equal bins of the best label's probability; empty bins are left out."""

    confidence: NDArray[np.float64]  # [b], mean of each bin
    accuracy: NDArray[np.float64]  # [b]
    counts: NDArray[np.int64]  # [b]
    error: float
    """Expected calibration error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A row that was answered wrongly, with the calibrated probabilities of both labels."""

    index: int
    fields: tuple[tuple[str, str], ...]
    right: str
    right_probability: float | None
    """None in a multi-label task, whose names include the probability of each label."""
    given: str
    given_probability: float | None
    loss: float
    """Loss of the right label before calibration, in nats; in a multi-label task, the mean over the labels."""


def confusion_matrix(predictions: Predictions) -> NDArray[np.int64]:
    """Rows by right label and given label, [K, K]."""
    return count_pairs(predictions.predicted, predictions.labels, len(predictions.label_names))


def count_pairs(answers: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> NDArray[np.int64]:
    """Rows by right label and given label, [K, K], of answers [n] and labels [n]."""
    counts = np.bincount(labels * num_labels + answers, minlength=num_labels * num_labels)
    return counts.reshape(num_labels, num_labels)


def label_scores(matrix: NDArray[np.int64], names: Sequence[str]) -> list[LabelScores]:
    """Precision, recall and F1 of each label, in the task's order."""
    hits, given, support = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    return [
        LabelScores(
            name=name,
            precision=_share(hits[i], given[i]),
            recall=_share(hits[i], support[i]),
            f1=_share(2 * hits[i], given[i] + support[i]),
            support=int(support[i]),
        )
        for i, name in enumerate(names)
    ]


def most_confused(matrix: NDArray[np.int64], names: Sequence[str], *, count: int) -> list[ConfusedPair]:
    """The pairs with the most wrong rows, the most first; only those that occur."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong.ravel(), kind="stable")[:count]
    support = matrix.sum(axis=1)
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return [
        ConfusedPair(
            right=names[right],
            given=names[given],
            rows=int(wrong[right, given]),
            share=_share(wrong[right, given], support[right]),
        )
        for right, given in pairs
        if wrong[right, given]
    ]


def reliability(
    probabilities: NDArray[np.float64],  # [n, K]
    labels: Labels,
) -> Reliability:
    """How far to believe the best label's probability, or each label's in a multi-label task."""
    return reliability_of(*confidence_and_outcome(probabilities, labels))


def reliability_of(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """How far to believe these probabilities of answers, [n] each."""
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    counts = np.bincount(bins, minlength=ECE_BINS)
    some = counts > 0
    sums = [np.bincount(bins, weights=values, minlength=ECE_BINS)[some] for values in (confidence, right)]
    return Reliability(
        confidence=sums[0] / counts[some],
        accuracy=sums[1] / counts[some],
        counts=counts[some],
        error=calibration_error(confidence, right),
    )


def worst_mistakes(
    predictions: Predictions,
    probabilities: NDArray[np.float64],  # [n, K], calibrated
    *,
    count: int,
) -> list[Mistake]:
    """Wrongly answered rows by falling loss."""
    if predictions.is_multi_label:
        return _worst_decisions(predictions, probabilities, count=count)
    rows = np.arange(len(predictions))
    losses = -predictions.log_probs[rows, predictions.labels].astype(np.float64)
    given = predictions.predicted
    wrong = np.flatnonzero(given != predictions.labels)
    worst = wrong[np.argsort(-losses[wrong], kind="stable")][:count]
    names = predictions.label_names
    return [
        Mistake(
            index=int(i),
            fields=tuple(predictions.fields[i].items()) or (("", predictions.texts[i]),),
            right=names[predictions.labels[i]],
            right_probability=float(probabilities[i, predictions.labels[i]]),
            given=names[given[i]],
            given_probability=float(probabilities[i, given[i]]),
            loss=float(losses[i]),
        )
        for i in worst
    ]


def decision_scores(predictions: Predictions, thresholds: NDArray[np.float64]) -> list[LabelScores]:
    """Scores of each label of a multi-label task, in its order."""
    names = predictions.label_names
    figures = label_figures(
        predictions.log_probs, predictions.predicted, predictions.labels, names=names, thresholds=thresholds.tolist()
    )
    return [LabelScores(**asdict(each)) for each in figures]


def num_wrong(predictions: Predictions) -> int:
    """Rows whose label, or any of whose labels, is wrong."""
    return int((~are_same(predictions.predicted, predictions.labels)).sum())


def _worst_decisions(predictions: Predictions, probabilities: NDArray[np.float64], *, count: int) -> list[Mistake]:
    """Multi-label rows with a wrong decision, by falling mean loss of their labels."""
    wrong = np.flatnonzero(~are_same(predictions.predicted, predictions.labels)).tolist()
    losses = {i: binary_loss(predictions.log_probs[i : i + 1], predictions.labels[i : i + 1]) for i in wrong}
    worst = sorted(wrong, key=lambda i: -losses[i])[:count]

    def told(i: int, labels: Labels) -> str:
        names = predictions.label_names
        return ", ".join(f"{names[k]} {probabilities[i, k]:.3f}" for k in np.flatnonzero(labels[i])) or "no label"

    return [
        Mistake(
            index=i,
            fields=tuple(predictions.fields[i].items()) or (("", predictions.texts[i]),),
            right=told(i, predictions.labels),
            right_probability=None,
            given=told(i, predictions.predicted),
            given_probability=None,
            loss=losses[i],
        )
        for i in worst
    ]


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
