"""Every metric against scikit-learn's or scipy's on random rows, and where those have no value."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as reference

from training.scoring.confusion import INVALID
from training.scoring.metrics import answer_metrics
from training.task.scoring import METRIC_NAMES, MetricName, Scoring

GRID = tuple(float(value) for value in (0, 0.2, 1, 1.4, 2, 3.2, 5))
Labels = NDArray[np.int64]


def ours(answers: Labels, labels: Labels, num_labels: int, *, positive: int = 1) -> dict[MetricName, float]:
    scoring = Scoring(
        metrics=tuple(name for name in METRIC_NAMES if name != "f1a"), positive=positive, values=GRID[:num_labels]
    )
    return answer_metrics(answers, labels, np.arange(len(labels)), num_labels=num_labels, scoring=scoring)


def drawn(seed: int, num_labels: int) -> tuple[Labels, Labels]:
    """Answers that are right more often than by chance, labels unevenly common."""
    random = np.random.default_rng(seed)
    count = int(random.integers(5, 400))
    labels = random.choice(num_labels, size=count, p=random.dirichlet(np.ones(num_labels)))
    answers = np.where(random.random(count) < 0.5, labels, random.integers(num_labels, size=count))
    return answers, labels


@pytest.mark.parametrize("num_labels", [2, 3, 7])
@pytest.mark.parametrize("seed", range(8))
def test_metrics_are_those_of_scikit_learn(seed: int, num_labels: int) -> None:
    answers, labels = drawn(seed, num_labels)
    found = ours(answers, labels, num_labels)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, answers), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="macro"), abs=1e-12)
    assert found["matthews"] == pytest.approx(reference.matthews_corrcoef(labels, answers), abs=1e-12)
    for positive in range(num_labels):
        wanted = reference.f1_score(labels == positive, answers == positive, zero_division=0)
        assert ours(answers, labels, num_labels, positive=positive)["f1"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    answers, labels = drawn(seed, 7)
    found, numbers = ours(answers, labels, 7), np.array(GRID)
    wanted = stats.pearsonr(numbers[answers], numbers[labels]).statistic
    assert found["pearson"] == pytest.approx(wanted, abs=1e-12)
    # so many ties that ranks of equals matter
    assert found["spearman"] == pytest.approx(stats.spearmanr(answers, labels).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_invalid_answers_are_a_label_apart(seed: int) -> None:
    answers, labels = drawn(seed, 3)
    answers[:: seed + 2] = INVALID
    found = ours(answers, labels, 3)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, answers), abs=1e-12)
    assert found["matthews"] == pytest.approx(reference.matthews_corrcoef(labels, answers), abs=1e-12)
    wanted = reference.f1_score(labels, answers, labels=np.union1d(answers, labels)[1:], average="macro")
    assert found["macro_f1"] == pytest.approx(wanted, abs=1e-12)
    numbers = np.array([*GRID[:3], -1.0])
    assert found["pearson"] == pytest.approx(stats.pearsonr(numbers[answers], numbers[labels]).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(answers, labels).statistic, abs=1e-12)


@pytest.mark.parametrize("count", [1, 3, 10, 1_000])
@pytest.mark.parametrize(("answer", "label"), [(0, 0), (0, 1), (1, 0), (1, 1), (INVALID, 1)])
def test_one_answer_and_one_label_have_values_and_no_warning(answer: int, label: int, count: int) -> None:
    found = ours(np.full(count, answer), np.full(count, label), 2)
    same = float(answer == label)
    assert found["accuracy"] == found["macro_f1"] == found["exact_match"] == same
    assert found["f1"] == float(answer == label == 1)
    assert found["matthews"] == found["pearson"] == found["spearman"] == 0.0


@pytest.mark.parametrize("constant", range(7))
def test_a_constant_correlates_with_nothing(constant: int) -> None:
    # a mean of equal numbers that is off by rounding would correlate with anything
    _, labels = drawn(1, 7)
    for answers, right in ((np.full_like(labels, constant), labels), (labels, np.full_like(labels, constant))):
        found = ours(answers, right, 7)
        assert found["pearson"] == found["spearman"] == found["matthews"] == 0.0
