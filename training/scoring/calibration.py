"""Calibration on held-out rows: temperature, abstain threshold, and calibration error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from adapters.calibration import (
    DEFAULT_LABEL_THRESHOLD,
    AbstainPromise,
    Calibration,
    calibrated,
    label_logits,
    read_promise,
)
from adapters.readout import ReadoutKind
from adapters.task import TaskSpec
from training.config.choices import Calibrate
from training.errors import InvalidArguments
from training.scoring.decisions import FITTED_THRESHOLDS, MIN_POSITIVES, Labels, ThresholdFit, fit_label_thresholds
from training.scoring.fitted_rows import FittedRows

MIN_ROWS = 50
"""With fewer held-out rows the temperature cannot be estimated and stays 1."""
MANY_LABELS = 20
"""With more labels, a temperature other than 1 makes serving score all of them instead of searching for five."""
ECE_BINS = 15

_LOWEST, _HIGHEST = 0.01, 100.0
"""The range that `Calibration` allows."""
_PRIOR_SIGMA = 0.5
_GOLDEN = (1 + sqrt(5)) / 2
_MISS_RATE = 0.1
"""Share of draws of held-out rows in which the precision above the threshold may be lower than requested."""
_NUM_CANDIDATES = 50
_FIRST_SHARE = 0.2
"""Share of the rows that the first candidate answers."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFit:
    """A calibration to serve, and its figures on held-out rows."""

    calibration: Calibration
    num_rows: int
    is_fitted: bool
    """Whether the temperature was fitted on these rows; otherwise it is unchanged."""
    coverage: float | None = None
    """Share of the held-out rows above the threshold; None without a threshold."""
    precision: float | None = None
    """Accuracy on those rows."""
    promise: AbstainPromise | None = None
    """The bound that these rows prove; None for a threshold that was kept."""
    notes: tuple[str, ...] = ()
    """Warnings about steps that were skipped, with the reason."""
    thresholds: ThresholdFit | None = None
    """The thresholds of a multi-label task, fitted on these rows after calibration; None if they are unchanged."""


def fit_calibration(
    log_probs: NDArray[np.float32],  # [n, K], of held-out rows
    labels: Labels,
    *,
    spec: TaskSpec,
    readout: ReadoutKind = "words",
    calibrate: Calibrate = "auto",
    abstain_precision: float | None = None,
    before: Calibration | None = None,
) -> CalibrationFit:
    """Fit a temperature and, if a precision is requested, the abstain threshold that reaches it after calibration.

    In a multi-label task, the threshold of each label is fitted instead.

    Args:
        readout: the readout of the adapter; `auto` spares the search over many label words, which learned ones lack
        before: the current calibration, kept as far as nothing is fitted

    Raises:
        InvalidArguments: an abstain threshold was requested for a multi-label task
    """
    served = before or Calibration()
    if spec.is_multi_label:
        check_abstention(spec, abstain_precision)
        return _fit_multi_label(log_probs, labels, calibrate=calibrate, spec=spec, served=served)
    reason = _reason_to_stay(len(labels), spec, calibrate, served, searched=readout == "words")
    temperature = served.temperature if reason else fit_temperature(log_probs, labels)
    probabilities, threshold = calibrated(log_probs, temperature), served.abstain_threshold
    notes = [f"the temperature stays {temperature:g}: {reason}"] if reason else []
    promise = None
    if abstain_precision is not None:
        threshold = fit_threshold(probabilities, labels, precision=abstain_precision)
        promise = None if threshold is None else AbstainPromise(abstain_precision, 1 - _MISS_RATE, len(labels))
        if threshold is None:
            rows = f"the {len(labels)} held-out rows"
            notes.append(f"no abstain threshold: no part of {rows} proves a precision of {abstain_precision:g}")
    elif threshold is not None and not reason:
        notes.append(
            f"the abstain threshold stays {threshold:.3f}, now applied to probabilities at temperature {temperature:g}"
        )
    coverage, precision = (None, None) if threshold is None else answered(probabilities, labels, threshold=threshold)
    return CalibrationFit(
        calibration=Calibration(temperature=temperature, abstain_threshold=threshold),
        num_rows=len(labels),
        is_fitted=reason is None,
        coverage=coverage,
        precision=precision,
        promise=promise,
        notes=tuple(notes),
    )


def check_abstention(spec: TaskSpec, abstain_precision: float | None) -> None:
    """Refuse an abstain threshold for a multi-label task, in which a text without a label is an answer.

    Raises:
        InvalidArguments: with the precision that was requested
    """
    if spec.is_multi_label and abstain_precision is not None:
        raise InvalidArguments(
            f"abstain_precision is {abstain_precision:g}, which a multi-label task does not have: each label has a "
            "threshold of its own, and a text may have none; omit it"
        )


def _fit_multi_label(
    log_probs: NDArray[np.float32], labels: Labels, *, calibrate: Calibrate, spec: TaskSpec, served: Calibration
) -> CalibrationFit:
    """Fit the temperature and the label thresholds of a multi-label task; `never` keeps both."""
    reason = _reason_to_stay(len(labels), spec, calibrate, served)
    temperature = served.temperature if reason else fit_temperature(log_probs, labels)
    notes = [f"the temperature stays {temperature:g}: {reason}"] if reason else []
    if calibrate == "never":
        return CalibrationFit(calibration=served, num_rows=len(labels), is_fitted=False, notes=tuple(notes))
    thresholds = fit_label_thresholds(calibrated(log_probs, temperature, multi_label=True), labels)
    if few := [name for name, fitted in zip(spec.label_names, thresholds.is_fitted, strict=True) if not fitted]:
        notes.append(few_positives_note(few, num_rows=len(labels)))
    return CalibrationFit(
        calibration=Calibration(temperature=temperature, label_thresholds=thresholds.thresholds),
        num_rows=len(labels),
        is_fitted=reason is None,
        notes=tuple(notes),
        thresholds=thresholds,
    )


def few_positives_note(names: Sequence[str], *, num_rows: int) -> str:
    """Return the note on labels whose threshold was not fitted."""
    named = ", ".join(map(repr, names[:5])) + ", …" * (len(names) > 5)
    return (
        f"the thresholds of {len(names)} labels stay {DEFAULT_LABEL_THRESHOLD:g}: fewer than {MIN_POSITIVES} of the "
        f"{num_rows} held-out rows have, or lack, the label: {named}"
    )


def _reason_to_stay(
    num_rows: int, spec: TaskSpec, calibrate: Calibrate, served: Calibration, *, searched: bool = False
) -> str | None:
    if calibrate == "never":
        return "calibration is off"
    if num_rows < MIN_ROWS:
        return f"{num_rows} held-out rows, expected at least {MIN_ROWS}"
    many = searched and len(spec.labels) > MANY_LABELS and spec.kind == "single_label"
    if calibrate == "auto" and many and served.temperature == 1:
        return f"with {len(spec.labels)} labels, any other makes the server score all of them (see --calibrate always)"
    return None


def fit_temperature(log_probs: NDArray[np.float32], labels: Labels) -> float:
    """Return the temperature, 0.01 to 100, that minimises the negative log-likelihood (Guo et al. 2017, section 4.2).

    A weak prior (log T normal around 0 with σ 0.5, counted once) keeps it finite if every row is right. The
    likelihood of multi-label rows is that of their decisions.
    """
    scores = label_logits(log_probs) if labels.ndim == 2 else log_probs.astype(np.float64)
    if labels.ndim == 1:
        scores -= scores.max(axis=1, keepdims=True)
        right = scores[np.arange(len(labels)), labels]

    def cost(log_temperature: float) -> float:
        by = np.exp(-log_temperature)
        if labels.ndim == 2:
            nats = np.logaddexp(0.0, scores * by) - labels * scores * by
        else:
            nats = np.log(np.exp(scores * by).sum(axis=1)) - right * by
        return float(nats.sum() + log_temperature**2 / (2 * _PRIOR_SIGMA**2))

    grid = np.linspace(np.log(_LOWEST), np.log(_HIGHEST), 47)
    costs = [cost(at) for at in grid.tolist()]
    best = int(np.argmin(costs))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    for _ in range(40):  # golden-section search: the cost has one minimum between the neighbours of the best
        left, right_end = high - (high - low) / _GOLDEN, low + (high - low) / _GOLDEN
        if cost(left) < cost(right_end):
            high = right_end
        else:
            low = left
    return float(np.clip(round(float(np.exp((low + high) / 2)), 4), _LOWEST, _HIGHEST))


def fit_threshold(probabilities: Floats, labels: Labels, *, precision: float) -> float | None:
    """Return a threshold on the best calibrated probability that answers many rows with the requested precision.

    In at least 90 % of draws of the held-out rows, the true precision reaches the requested one. Each candidate is
    a hypothesis, "the precision above this confidence is too low", that an exact binomial test of the rows above it may
    reject. Candidates are tested by fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test", section 3.2;
    Bauer 1991): their order, from few answered rows to all, does not depend on labels, and the first that is not
    rejected ends the sequence. The last rejected one is chosen, and no correction for the number of tests is needed.
    The sequence begins at a fifth of the rows, so that one wrong row among the most confident does not end it.

    A threshold is halfway between two probabilities, since scores may differ in their last digits from batch to batch.

    Args:
        probabilities: [n, K]
        precision: the wanted share of right answers among the answered rows, 0 to 1

    Returns:
        None if no threshold proves it; 0 if every row may be answered
    """
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    confidences = best[order]
    right = np.cumsum(probabilities.argmax(axis=1)[order] == labels[order])  # [n], in the first i + 1
    # equal probabilities are answered together
    ends = np.flatnonzero(np.append(confidences[:-1] > confidences[1:], True)) + 1
    last = None
    for count in _sequence(ends, precision):
        if _binomial_tail(int(right[count - 1]), count, precision) > _MISS_RATE:
            break
        last = count
    if last is None:
        return None
    return 0.0 if last == len(order) else float((confidences[last - 1] + confidences[last]) / 2)


def _sequence(ends: Labels, precision: float) -> list[int]:
    """Return how many rows each candidate answers, ascending; the last one answers all.

    Args:
        ends: numbers of rows, ascending, that a threshold can answer
        precision: a candidate needs as many rows as prove it if all are right
    """
    num_rows = int(ends[-1])
    fewest = ceil(log(_MISS_RATE) / log(precision))
    candidates = set()
    for share in np.linspace(_FIRST_SHARE, 1, _NUM_CANDIDATES):
        wanted = max(fewest, int(share * num_rows))
        at = int(np.searchsorted(ends, wanted, side="right")) - 1
        if at < 0 or ends[at] < fewest:
            at = min(at + 1, len(ends) - 1)
        candidates.add(int(ends[at]))
    return sorted(candidates)


def _binomial_tail(right: int, count: int, share: float) -> float:
    """Return the probability of at least `right` successes of `count`, each with probability `share`."""
    from scipy.stats import binom  # noqa: PLC0415 - a second of processor time, for runs with a threshold only

    return float(binom.sf(right - 1, count, share))


def answered(probabilities: Floats, labels: Labels, *, threshold: float) -> tuple[float, float]:
    """Return the share of answered rows, and the share of right answers among them (1 if there are none)."""
    kept = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == labels
    return float(kept.mean()), float(right[kept].mean()) if kept.any() else 1.0


def expected_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = ECE_BINS) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width of the best label's probability,
    weighted by their rows (Guo et al. 2017, section 2).

    In a multi-label task: between the probability of a label and the share of rows that have it, over all decisions.

    Args:
        probabilities: [n, K]
    """
    return calibration_error(*confidence_and_outcome(probabilities, labels), bins=bins)


def calibration_error(confidence: Floats, right: NDArray[np.bool_], *, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error of answers with these probabilities, [n] each."""
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # bin b is (b/bins, (b+1)/bins]
    gaps = np.bincount(where, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def confidence_and_outcome(probabilities: Floats, labels: Labels) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the probability of each answer and whether it is right, [n]; of a multi-label task, of each label and
    whether the row has it, [n · K].
    """
    if labels.ndim == 2:
        return probabilities.ravel(), labels.ravel() == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Return the mean squared error of the probabilities [n, K], summed over the labels, 0 to 2 (Brier 1950).

    In a multi-label task: the mean over all decisions, 0 to 1.
    """
    if labels.ndim == 2:
        return float(((probabilities - labels) ** 2).mean())
    right = probabilities[np.arange(len(labels)), labels]
    return float(((probabilities**2).sum(axis=1) - 2 * right + 1).mean())


def calibration_figures(
    fit: CalibrationFit,
    log_probs: NDArray[np.float32],  # [n, K], of rows not used by the fit
    labels: Labels,
) -> dict[str, float]:
    """Measure a calibration on other rows: `ece` and `brier`, and `raw_…` without it."""
    return _figures(fit, _probabilities(log_probs, fit.calibration.temperature, labels), log_probs, labels)


def halves_figures(
    fit: CalibrationFit,
    log_probs: NDArray[np.float32],  # [n, K], of the rows that it was fitted on
    labels: Labels,
) -> dict[str, float]:
    """Measure a calibration without other rows, on two halves, each under the temperature of the other half.

    A half's own temperature would give optimistic figures. A threshold is measured on the rows that it was fitted on.
    """
    halves = np.random.default_rng(0).permutation(len(labels)) % 2 == 0  # [n]
    probabilities = _probabilities(log_probs, fit.calibration.temperature, labels)
    if fit.is_fitted:
        for half in (halves, ~halves):
            temperature = fit_temperature(log_probs[~half], labels[~half])
            probabilities[half] = _probabilities(log_probs[half], temperature, labels)
    return _figures(fit, probabilities, log_probs, labels)


def _probabilities(log_probs: NDArray[np.float32], temperature: float, labels: Labels) -> Floats:
    return calibrated(log_probs, temperature, multi_label=labels.ndim == 2)


def _figures(
    fit: CalibrationFit, probabilities: Floats, log_probs: NDArray[np.float32], labels: Labels
) -> dict[str, float]:
    raw, threshold = calibrated(log_probs, 1.0), fit.calibration.abstain_threshold
    figures = {
        "raw_ece": expected_calibration_error(raw, labels),
        "ece": expected_calibration_error(probabilities, labels),
        "raw_brier": brier_score(raw, labels),
        "brier": brier_score(probabilities, labels),
    }
    if threshold is None:
        return figures
    coverage, precision = answered(probabilities, labels, threshold=threshold)
    promised = {} if fit.promise is None else fit.promise.figures()
    return figures | {"coverage": coverage, "answered_accuracy": precision} | promised


def calibration_line(calibration: Calibration, figures: Mapping[str, float], *, role: str = "report") -> str:
    """Summarise a calibration in a sentence, from the figures of `role` in a provenance."""
    ece, brier = (f"{figures[f'{role}_raw_{name}']:.3f} → {figures[f'{role}_{name}']:.3f}" for name in ("ece", "brier"))
    line = f"ECE {ece} at temperature {calibration.temperature:.3g}, Brier score {brier}"
    if (thresholds := calibration.label_thresholds) is not None:
        return f"{line}; label thresholds {min(thresholds):.3f} to {max(thresholds):.3f}"
    if calibration.abstain_threshold is None:
        return line
    promise = read_promise(figures, role=role)
    promised = "" if promise is None else f" for {promise}"
    return (
        f"{line}; abstains below {calibration.abstain_threshold:.3f}{promised}: "
        f"{100 * figures[f'{role}_coverage']:.1f} % of the rows answered, "
        f"{100 * figures[f'{role}_answered_accuracy']:.1f} % of those correctly"
    )


def calibration_told(calibration: Calibration, figures: Mapping[str, float], data: Mapping[str, object]) -> str:
    """The same, and which rows it is of.

    Args:
        data: a provenance's, with what `Appraisal.described` or `validation.with_calibration` put there
    """
    told = f"{calibration_line(calibration, figures)} ({_rows(calibration, data)})."
    if calibration.temperature == 1:
        told += " The temperature was left at 1: probabilities are the model's own."
    if (thresholds := calibration.label_thresholds) is not None and FITTED_THRESHOLDS in data:
        told += (
            f" Each threshold maximises its label's F1 on the rows that it was fitted on; {data[FITTED_THRESHOLDS]} of "
            f"{len(thresholds)} were fitted. The others stay {DEFAULT_LABEL_THRESHOLD:g}, since fewer than "
            f"{MIN_POSITIVES} of those rows have, or lack, the label."
        )
    return told


def _rows(calibration: Calibration, data: Mapping[str, object]) -> str:
    file = data.get("calibration_file")
    rows = "the report rows themselves" if file is None else f"the {data['calibration_rows']} rows of {file}"
    if data.get("calibration_measured") == "halves":
        threshold = "" if calibration.abstain_threshold is None else "; the threshold on all of them"
        return f"fitted on {rows}, measured on two halves of them, each under the other's temperature{threshold}"
    if file is not None:
        return f"the temperature as it was before, the threshold fitted on {rows}, both measured on them"
    if data.get("split") == "paper":
        return f"fitted and measured on {rows}"
    if calibration == Calibration():
        return "measured on the report rows"
    if FittedRows.read(data) is not None:
        return "fitted on out-of-fold predictions of the training and selection rows, measured on the report rows"
    return "fitted on the selection rows, measured on the report rows"
