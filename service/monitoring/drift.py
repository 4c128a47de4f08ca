"""Drift: the distance between live answers and those that an adapter gave on its held-out rows. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from adapters.profile import CONFIDENCE_BINS, ValidationProfile

SHIFTING = 0.1
SHIFTED = 0.25
"""A model whose index reaches this sees another population (Lewis 1994, "An Introduction to Credit Scoring")."""
ROWS_A_BIN = 20
_SMOOTHING = 0.5

Verdict = Literal["stable", "shifting", "shifted", "not_enough_rows"]


@dataclass(frozen=True, slots=True)
class LiveAnswers:
    """One version's answers over all replicas; a missing bin has no rows."""

    labels: Mapping[int, int]
    """Rows by the label's index in the task's order."""
    confidences: Mapping[int, int]
    """Rows by the bin of the answered label's calibrated probability."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One version's answers of the last hour, compared with those on its held-out rows."""

    version: int
    rows: int
    """Answered since `since`."""
    min_rows: int
    """With fewer rows, here or in the profile, chance alone would look like drift."""
    since: datetime
    label_psi: float | None
    """Population stability index of the labels' shares; null without enough rows."""
    confidence_psi: float | None
    """The same of the answered label's calibrated probability, in ten bins."""
    verdict: Verdict
    """By the larger of the two: `stable` below 0.1, `shifted` from 0.25 on, `shifting` between."""
    label_counts: list[int]
    """Rows by label, in the task's order; compare with `label_counts` of the version's `validation`."""
    confidence_counts: list[int]
    """Rows by tenth of the answered label's calibrated probability, lowest first; see `validation`."""

    @property
    def worst(self) -> float:
        """The larger index; 0 without enough rows."""
        return max(self.label_psi or 0.0, self.confidence_psi or 0.0)


def population_stability_index(expected: Sequence[int], live: Sequence[int]) -> float:
    """Compute Σ (p − q) · ln(p / q) over the bins of two histograms (Siddiqi 2006, "Credit Risk Scorecards").

    It is symmetric, and 0 for equal shares. Half a row is added to each bin of both histograms, so that a bin that is
    empty on one side counts as rare instead of infinitely far. A bin that is empty on both sides is left out.

    Args:
        expected: rows by bin
        live: rows by bin, the same number of bins
    """
    bins = [(ours, theirs) for ours, theirs in zip(expected, live, strict=True) if ours or theirs]
    smoothing = _SMOOTHING * len(bins)
    expected_total, live_total = sum(expected) + smoothing, sum(live) + smoothing
    index = 0.0
    for ours, theirs in bins:
        p, q = (ours + _SMOOTHING) / expected_total, (theirs + _SMOOTHING) / live_total
        index += (p - q) * math.log(p / q)
    return index


def min_rows(num_labels: int) -> int:
    """Return how many rows a verdict needs: 20 per bin of the finer histogram, so 200 for up to ten labels.

    Without drift the index is distributed as (1/n + 1/m) · χ² with bins − 1 degrees of freedom (Yurdakul and Naranjo
    2020, "Statistical properties of the population stability index"): n live rows add less than 1/20 to its mean.
    """
    return ROWS_A_BIN * max(num_labels, CONFIDENCE_BINS)


def compare(profile: ValidationProfile, live: LiveAnswers, *, version: int, since: datetime) -> DriftReport:
    """Compare a version's live answers with its profile."""
    labels = _filled(live.labels, len(profile.label_counts))
    confidences = _filled(live.confidences, CONFIDENCE_BINS)
    rows, least = sum(live.labels.values()), min_rows(len(labels))
    label_psi = confidence_psi = None
    if min(rows, profile.rows) >= least:
        label_psi = population_stability_index(profile.label_counts, labels)
        confidence_psi = population_stability_index(profile.confidence_counts, confidences)
    return DriftReport(
        version=version,
        rows=rows,
        min_rows=least,
        since=since,
        label_psi=label_psi,
        confidence_psi=confidence_psi,
        verdict=_verdict(label_psi, confidence_psi),
        label_counts=labels,
        confidence_counts=confidences,
    )


def _filled(counts: Mapping[int, int], bins: int) -> list[int]:
    return [counts.get(index, 0) for index in range(bins)]


def _verdict(label_psi: float | None, confidence_psi: float | None) -> Verdict:
    if label_psi is None or confidence_psi is None:
        return "not_enough_rows"
    index = max(label_psi, confidence_psi)
    if index < SHIFTING:
        return "stable"
    return "shifting" if index < SHIFTED else "shifted"
