"""Bootstrap intervals against resampling row by row, and against what is known of shares."""

import numpy as np
import pytest

from training.scoring.bootstrap import Interval, interval_figures, intervals
from training.scoring.metrics import answer_metrics, group_codes
from training.task.scoring import METRIC_NAMES, MULTI_LABEL_ONLY, MetricName, Scoring

VALUES = (0.0, 0.5, 2.0)


def test_the_interval_of_a_share_is_that_of_the_normal_distribution() -> None:
    labels = np.zeros(2_000, dtype=np.int64)
    answers = np.where(np.arange(2_000) < 1_600, 0, 1)
    found = intervals(answers, labels, num_labels=2, scoring=Scoring())["accuracy"]
    margin = 1.96 * np.sqrt(0.8 * 0.2 / 2_000)
    assert found.low == pytest.approx(0.8 - margin, abs=0.002)
    assert found.high == pytest.approx(0.8 + margin, abs=0.002)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("metrics", [("f1", "accuracy"), ("matthews", "exact_match"), ("pearson", "spearman", "f1a")])
@pytest.mark.slow
def test_counts_drawn_at_once_are_rows_drawn_one_by_one(metrics: tuple[MetricName, ...], grouped: bool) -> None:
    random = np.random.default_rng(3)
    labels = random.choice(3, size=150, p=[0.5, 0.3, 0.2])
    answers = np.where(random.random(150) < 0.7, labels, random.integers(3, size=150))
    groups = [f"group {number // 3}" for number in range(150)] if grouped else None
    scoring = Scoring(metrics=metrics, values=VALUES)
    found = intervals(answers, labels, num_labels=3, scoring=scoring, groups=groups)
    codes = group_codes(groups, 150)
    samples = []
    for _ in range(600):
        drawn = random.integers(codes.max() + 1, size=codes.max() + 1)
        rows = np.concatenate([np.flatnonzero(codes == group) for group in drawn])
        again = np.repeat(np.arange(len(drawn)), [int((codes == group).sum()) for group in drawn])
        samples.append(answer_metrics(answers[rows], labels[rows], again, num_labels=3, scoring=scoring))
    for name in scoring.measured:
        low, high = np.quantile([sample[name] for sample in samples], [0.025, 0.975])
        assert found[name].low == pytest.approx(low, abs=0.02)
        assert found[name].high == pytest.approx(high, abs=0.02)
    score = np.quantile([np.mean([sample[name] for name in metrics]) for sample in samples], [0.025, 0.975])
    assert (found["score"].low, found["score"].high) == pytest.approx(tuple(score), abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    random = np.random.default_rng(0)
    answers, labels = random.integers(2, size=(2, 90))
    first, same, other = (intervals(answers, labels, num_labels=2, scoring=Scoring(), seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_rows_that_are_all_alike_have_no_spread_and_no_warning() -> None:
    scoring = Scoring(metrics=tuple(name for name in METRIC_NAMES if name not in MULTI_LABEL_ONLY), values=VALUES)
    for answer, worth in ((1, 1.0), (0, 0.0)):
        found = intervals(np.full(20, answer), np.full(20, 1), num_labels=3, scoring=scoring)
        assert found["accuracy"] == found["exact_match"] == found["f1"] == Interval(worth, worth)
        assert found["matthews"] == found["pearson"] == found["spearman"] == Interval(0.0, 0.0)


def test_a_thousand_labels_are_resampled_too() -> None:
    labels = np.random.default_rng(0).integers(1_000, size=4_000)
    answers = np.where(np.arange(4_000) % 4 == 0, (labels + 1) % 1_000, labels)
    found = intervals(answers, labels, num_labels=1_000, scoring=Scoring())
    assert found["accuracy"].low < 0.75 < found["accuracy"].high


def test_bounds_have_names() -> None:
    assert interval_figures({"f1": Interval(0.25, 0.5)}) == {"f1_low": 0.25, "f1_high": 0.5}
    assert str(Interval(0.25, 0.5)) == "0.250–0.500"
