"""The paired bootstrap of two sets of answers, against a resampling of rows one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.scoring.bootstrap import RESAMPLES
from training.scoring.metrics import answer_metrics, group_codes
from training.scoring.paired import score_lead
from training.task.scoring import MetricName, Scoring

DRAW = np.random.default_rng(0)
NUM_LABELS = 4
LABELS: NDArray[np.int64] = DRAW.integers(NUM_LABELS, size=200)
GOOD = np.where(DRAW.random(200) < 0.8, LABELS, DRAW.integers(NUM_LABELS, size=200))
BAD = np.where(DRAW.random(200) < 0.6, LABELS, DRAW.integers(NUM_LABELS, size=200))


def score(answers: NDArray[np.int64], rows: NDArray[np.int64], scoring: Scoring) -> float:
    values = answer_metrics(
        answers[rows], LABELS[rows], group_codes(None, len(rows)), num_labels=NUM_LABELS, scoring=scoring
    )
    return float(np.mean([values[name] for name in scoring.metrics]))


@pytest.mark.parametrize("metrics", [("accuracy",), ("macro_f1", "accuracy"), ("matthews",), ("pearson", "spearman")])
def test_the_lead_is_that_of_rows_resampled_one_by_one(metrics: tuple[MetricName, ...]) -> None:
    scoring = Scoring(metrics=metrics, values=(0.0, 1.0, 2.0, 3.0))
    lead = score_lead(GOOD, BAD, LABELS, num_labels=NUM_LABELS, scoring=scoring)
    whole = np.arange(len(LABELS))
    assert lead.value == pytest.approx(score(GOOD, whole, scoring) - score(BAD, whole, scoring))
    draw = np.random.default_rng(1)
    samples = [draw.integers(len(LABELS), size=len(LABELS)) for _ in range(RESAMPLES)]
    differences = [score(GOOD, rows, scoring) - score(BAD, rows, scoring) for rows in samples]
    assert [lead.low, lead.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.015)
    assert lead.is_shown


def test_equal_answers_have_a_lead_of_zero_without_doubt() -> None:
    lead = score_lead(GOOD, GOOD, LABELS, num_labels=NUM_LABELS, scoring=Scoring())
    assert (lead.value, lead.low, lead.high) == (0.0, 0.0, 0.0)
    assert not lead.is_shown


def test_groups_are_drawn_whole() -> None:
    """Fifty copies of four rows are no more certain than the four rows."""
    groups = [str(row // 50) for row in range(200)]
    scoring = Scoring(metrics=("exact_match",))
    expected = np.array([0, 1, 0, 1]).repeat(50)
    right = score_lead(expected, 1 - expected, expected, num_labels=2, scoring=scoring, groups=groups)
    assert (right.value, right.low, right.high) == (1.0, 1.0, 1.0)
    half = expected.copy()
    half[100:] = 1 - half[100:]
    lead = score_lead(half, 1 - half, expected, num_labels=2, scoring=scoring, groups=groups)
    assert lead.value == 0.0
    assert lead.low == -1.0
    assert lead.high == 1.0


def test_an_invalid_answer_is_wrong_in_both() -> None:
    invalid = np.full_like(LABELS, -1)
    lead = score_lead(LABELS, invalid, LABELS, num_labels=NUM_LABELS, scoring=Scoring())
    assert (lead.value, lead.low, lead.high) == (1.0, 1.0, 1.0)
