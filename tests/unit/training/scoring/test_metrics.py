"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as reference

from training.scoring.confusion import INVALID
from training.scoring.metrics import Metrics, answer_metrics, measure
from training.task.scoring import METRIC_NAMES, MULTI_LABEL_ONLY, MetricName, Scoring


def log_probs(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    """Probabilities as what the scorer gives, [n, K]."""
    return np.log(np.array(rows, dtype=np.float64)).astype(np.float32)


def answers(predicted: list[int], *, num_labels: int) -> NDArray[np.float32]:
    """Log-probabilities whose best labels are these, [n, K]."""
    scores = np.full((len(predicted), num_labels), math.log(0.1 / max(1, num_labels - 1)), dtype=np.float32)
    scores[np.arange(len(predicted)), predicted] = math.log(0.9)
    return scores


def labels(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def test_a_small_table_gives_what_is_worked_out_by_hand() -> None:
    # predicted 0 0 1 2 2, right 0 1 1 2 0
    metrics = measure(
        log_probs((0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.2, 0.5, 0.3), (0.1, 0.1, 0.8), (0.25, 0.25, 0.5)),
        labels(0, 1, 1, 2, 0),
    )
    assert metrics.accuracy == pytest.approx(3 / 5)
    # F1 of 0: 2·1/(2+2), of 1: 2·1/(1+2), of 2: 2·1/(2+1)
    assert metrics.macro_f1 == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)
    nats = -(math.log(0.7) + math.log(0.3) + math.log(0.5) + math.log(0.8) + math.log(0.25)) / 5
    assert metrics.loss == pytest.approx(nats, rel=1e-6)
    assert metrics.constants["accuracy"] == pytest.approx(2 / 5)
    assert not metrics.collapsed


def test_right_answers_for_every_row_are_worth_one() -> None:
    metrics = measure(answers([0, 1, 2, 1], num_labels=3), labels(0, 1, 2, 1))
    assert (metrics.accuracy, metrics.macro_f1, metrics.constants["accuracy"]) == (1.0, 1.0, 0.5)
    assert metrics.loss == pytest.approx(-math.log(0.9), rel=1e-6)


def test_wrong_answers_for_every_row_are_worth_nothing() -> None:
    metrics = measure(answers([1, 0, 1], num_labels=2), labels(0, 1, 0))
    assert (metrics.accuracy, metrics.macro_f1) == (0.0, 0.0)
    assert metrics.loss == pytest.approx(-math.log(0.1), rel=1e-6)


def test_one_answer_for_every_row_is_a_collapse_and_worth_the_constant() -> None:
    metrics = measure(answers([1, 1, 1, 1], num_labels=2), labels(1, 1, 1, 0))
    assert metrics.collapsed
    assert metrics.accuracy == metrics.constants["accuracy"] == 0.75
    # F1 of 1: 2·3/(4+3), of 0: 0
    assert metrics.macro_f1 == pytest.approx(6 / 7 / 2)


def test_a_label_that_is_neither_right_nor_answered_does_not_count() -> None:
    three, ten = (measure(answers([0, 1, 0], num_labels=k), labels(0, 1, 1)) for k in (3, 10))
    assert three.macro_f1 == ten.macro_f1 == pytest.approx(2 / 3)


def test_a_label_that_is_only_answered_counts_as_zero() -> None:
    # F1 of 0: 2·1/(1+2), of 2: 0
    assert measure(answers([0, 2], num_labels=3), labels(0, 0)).macro_f1 == pytest.approx(1 / 3)


def test_the_constant_answer_is_judged_by_the_commonest_label_not_the_commonest_answer() -> None:
    metrics = measure(answers([0, 0, 0, 0, 1], num_labels=2), labels(1, 1, 1, 1, 0))
    assert metrics.constants["accuracy"] == pytest.approx(4 / 5)
    assert metrics.accuracy == 0.0


def test_the_loss_of_many_rows_keeps_its_precision() -> None:
    n = 200_000
    scores = np.full((n, 2), math.log(0.5), dtype=np.float32)
    assert measure(scores, np.zeros(n, dtype=np.int64)).loss == pytest.approx(math.log(2), abs=1e-7)


def test_figures_are_the_numbers_by_name() -> None:
    metrics = Metrics(
        values={"accuracy": 0.5, "macro_f1": 0.25},
        score=0.5,
        loss=1.5,
        constants={"accuracy": 0.75, "macro_f1": 0.375},
        constant_score=0.75,
        collapsed=True,
    )
    assert metrics.figures() == {
        **{"accuracy": 0.5, "macro_f1": 0.25, "score": 0.5, "loss": 1.5},
        **{"constant_accuracy": 0.75, "constant_macro_f1": 0.375, "constant_score": 0.75},
    }


def test_the_score_is_the_mean_of_the_tasks_metrics_and_no_other() -> None:
    scores, right = answers([1, 1, 0, 0, 1], num_labels=2), labels(1, 0, 0, 1, 1)
    metrics = measure(scores, right, scoring=Scoring(metrics=("f1", "matthews")))
    # 2 of 3 answered, 2 of 3 wanted: F1 is 2/3; Matthews is (2·1 − 1·1) / √(3·3·2·2)
    assert metrics.values["f1"] == pytest.approx(2 / 3)
    assert metrics.values["matthews"] == pytest.approx(1 / 6)
    assert metrics.score == metrics.figures()["score"] == pytest.approx((2 / 3 + 1 / 6) / 2)
    assert metrics.accuracy == pytest.approx(3 / 5)


def test_f1_is_of_the_label_that_the_task_calls_positive() -> None:
    scores, right = answers([0, 0, 0, 1], num_labels=2), labels(0, 0, 1, 1)
    first, second = (
        measure(scores, right, scoring=Scoring(metrics=("f1",), positive=positive)).score for positive in (0, 1)
    )
    assert (first, second) == (pytest.approx(2 * 2 / (3 + 2)), pytest.approx(2 * 1 / (1 + 2)))


def test_a_group_is_right_where_every_answer_of_it_is() -> None:
    groups = ["who", "when", "who", "when", "why"]
    metrics = measure(
        answers([1, 0, 0, 1, 1], num_labels=2),
        labels(1, 0, 0, 0, 0),
        scoring=Scoring(metrics=("f1a", "exact_match")),
        groups=groups,
    )
    assert metrics.values["exact_match"] == pytest.approx(1 / 3)
    assert metrics.values["f1a"] == pytest.approx(2 * 1 / (3 + 1))  # over all answers, whatever their group
    # always 0 is right for "when" and "why"; always 1 is worth F1a 2·1/(5+1), for no group
    assert metrics.constants["exact_match"] == pytest.approx(2 / 3)
    assert metrics.constants["f1a"] == pytest.approx(1 / 3)
    assert metrics.constant_score == pytest.approx((0 + 2 / 3) / 2)


def test_constants_are_the_best_of_each_metric_and_the_constant_score_is_of_one_answer() -> None:
    # 1 of 4 is positive: always 0 gives accuracy 3/4 and F1 0, always 1 gives 1/4 and 2/5
    metrics = measure(
        answers([0, 1, 0, 1], num_labels=2), labels(0, 0, 0, 1), scoring=Scoring(metrics=("accuracy", "f1"))
    )
    assert metrics.constants["accuracy"] == pytest.approx(3 / 4)
    assert metrics.constants["f1"] == pytest.approx(2 / 5)
    assert metrics.constant_score == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    ("zeros", "ones", "wanted"),
    [(129, 279, {"f1": 0.812, "accuracy": 0.684}), (2773, 2075, {"f1a": 0.599})],
    ids=["mrpc", "multirc"],
)
def test_the_papers_constant_cells_come_out(zeros: int, ones: int, wanted: dict[MetricName, float]) -> None:
    right = labels(*[0] * zeros, *[1] * ones)
    metrics = measure(answers([1] * len(right), num_labels=2), right, scoring=Scoring(metrics=tuple(wanted)))
    assert {name: round(metrics.constants[name], 3) for name in wanted} == wanted
    assert metrics.collapsed


def test_correlations_are_of_the_numbers_of_the_best_labels() -> None:
    # 0, 2, 10 answered for 0, 10, 2: covariance 12 of squares 56
    scoring = Scoring(metrics=("pearson", "spearman"), values=(0.0, 2.0, 10.0))
    metrics = measure(answers([0, 1, 2], num_labels=3), labels(0, 2, 1), scoring=scoring)
    assert metrics.values["pearson"] == pytest.approx(1 - 64 / 56)
    assert metrics.values["spearman"] == pytest.approx(0.5)
    assert metrics.constants["pearson"] == metrics.constants["spearman"] == metrics.constant_score == 0.0


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(ROWS)
def test_figures_are_shares_and_do_not_depend_on_the_order_of_rows(rows: list[tuple[int, int]]) -> None:
    predicted, right = [p for p, _ in rows], labels(*(r for _, r in rows))
    metrics = measure(answers(predicted, num_labels=4), right)
    assert 0 <= metrics.macro_f1 <= 1
    assert 1 / 4 <= metrics.constants["accuracy"] <= 1
    assert metrics.accuracy == pytest.approx(sum(p == r for p, r in rows) / len(rows))
    assert metrics.collapsed == (len(set(predicted)) == 1)
    turned = measure(answers(predicted[::-1], num_labels=4), right[::-1])
    assert turned.figures() == pytest.approx(metrics.figures())


@given(ROWS)
def test_figures_do_not_depend_on_which_label_stands_first(rows: list[tuple[int, int]]) -> None:
    figures = measure(answers([p for p, _ in rows], num_labels=4), labels(*(r for _, r in rows))).figures()
    swapped = measure(answers([3 - p for p, _ in rows], num_labels=4), labels(*(3 - r for _, r in rows))).figures()
    assert swapped == pytest.approx(figures)


@given(ROWS)
def test_macro_f1_of_two_labels_is_the_mean_of_precision_and_recall_pairs(rows: list[tuple[int, int]]) -> None:
    pairs = [(p % 2, r % 2) for p, r in rows]
    scores = []
    for label in {value for pair in pairs for value in pair}:
        hits = sum(p == r == label for p, r in pairs)
        answered, wanted = sum(p == label for p, _ in pairs), sum(r == label for _, r in pairs)
        precision, recall = hits / answered if answered else 0.0, hits / wanted if wanted else 0.0
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    metrics = measure(answers([p for p, _ in pairs], num_labels=2), labels(*(r for _, r in pairs)))
    assert metrics.macro_f1 == pytest.approx(sum(scores) / len(scores))


GRID = tuple(float(value) for value in (0, 0.2, 1, 1.4, 2, 3.2, 5))


Labels = NDArray[np.int64]


def ours(answers: Labels, labels: Labels, num_labels: int, *, positive: int = 1) -> dict[MetricName, float]:
    scoring = Scoring(
        metrics=tuple(name for name in METRIC_NAMES if name not in MULTI_LABEL_ONLY | {"f1a"}),
        positive=positive,
        values=GRID[:num_labels],
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
