"""Baselines of a run: what each of them learns, from which rows, and how often it is fitted."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union
from support.training import easy_task, write_rows

from adapters import TaskSpec
from adapters.baselines import BASELINES
from backbone import Backbone
from training.baselines import bag_of_words as words
from training.baselines.comparison import MAX_ZERO_SHOT_LABELS, baselines_of, compared
from training.baselines.fitting import Baselines
from training.baselines.frozen_head import FrozenStates
from training.baselines.rows import BaselineRows, TextRows
from training.data.examples import Example
from training.runs.task_rows import TaskRows
from training.scoring.evaluation import TokenizedRows
from training.task.scoring import Scoring
from training.task.task_file import DataSource, TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskFile:
    return easy_task(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def rows(tiny: Backbone, task: TaskFile) -> BaselineRows:
    return TaskRows(tiny, task).divided(split="honest", seed=0, limit=None).for_baselines


def text_rows(texts: list[str], labels: list[int]) -> TextRows:
    """Rows for a bag of words alone; their tokens stand for nothing."""
    tokens = tuple((index,) for index in range(len(texts)))
    return TextRows(tuple(texts), TokenizedRows(tokens, np.array(labels, dtype=np.int64), 0))


def test_a_bag_of_words_learns_what_words_tell(tiny: Backbone, task: TaskFile, rows: BaselineRows) -> None:
    answers = {each.name: each for each in Baselines(tiny).answers(rows, task)}
    assert list(answers) == ["constant", "zero_shot", "tfidf", "head"]
    right = {name: (each.answers == rows.report.tokenized.labels).mean() for name, each in answers.items()}
    assert right["tfidf"] == 1.0
    assert right["constant"] == np.bincount(rows.report.tokenized.labels).max() / len(rows.report)
    assert answers["constant"].setting in ("always 'sports'", "always 'business'")
    assert answers["tfidf"].setting.startswith("C = ")
    assert answers["head"].setting.startswith("C = ")


def test_a_bag_of_words_is_that_of_scikit_learn(task: TaskFile, rows: BaselineRows) -> None:
    found = words.bag_of_words(rows, num_labels=2, scoring=task.scoring)
    vectorizer = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
    )
    train = vectorizer.fit_transform(rows.fitted.texts)
    model = LogisticRegression(C=float(found.setting.removeprefix("C = ")), max_iter=1_000)
    model.fit(train, rows.fitted.tokenized.labels)
    expected = model.predict_log_proba(vectorizer.transform(rows.report.texts))
    assert found.report == pytest.approx(expected, abs=0.01)


def test_many_labels_are_fitted_one_by_one() -> None:
    labels = [index % 30 for index in range(90)]
    train = text_rows([f"word{label} film" for label in labels], labels)
    report = text_rows([f"word{label} dog" for label in range(30)], list(range(30)))
    rows = BaselineRows(train=train, selection=train, report=report)
    log_probs = words.bag_of_words(rows, num_labels=31, scoring=Scoring()).report
    assert log_probs.argmax(axis=1).tolist() == list(range(30))
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_untrained_model_is_not_measured_on_many_labels() -> None:
    def spec(count: int) -> TaskSpec:
        return TaskSpec(template="{text}", labels={f"l{i}": f"label {i}" for i in range(count)}, max_tokens=32)

    assert baselines_of("superpos", spec(MAX_ZERO_SHOT_LABELS)) == BASELINES
    assert baselines_of("superpos", spec(MAX_ZERO_SHOT_LABELS + 1)) == ("constant", "tfidf", "head")


def test_the_fields_of_a_pair_are_joined_without_the_template() -> None:
    example = Example("first: a b second: c", 0, None, {"one": "a b", "two": "c"})
    assert TextRows.of([example], TokenizedRows(((1,),), np.zeros(1, np.int64), 0)).texts == ("a b\nc",)


def test_the_selection_rows_choose_where_rows_are_many() -> None:
    """The strength depends on whether the selection rows agree with the training rows."""
    train = text_rows(["red cat", "red dog", "blue cat", "blue dog"] * 30, [0, 0, 1, 1] * 30)
    scoring = Scoring()
    chosen = {}
    for name, labels in (("as training", [0, 1]), ("opposite", [1, 0])):
        selection = text_rows(["red cat", "blue dog"] * 25, labels * 25)
        rows = BaselineRows(train=train, selection=selection, report=train)
        chosen[name] = words.bag_of_words(rows, num_labels=2, scoring=scoring).setting
    # equal scores: the loss prefers confidence where it is right, and caution where it is wrong
    assert chosen == {"as training": "C = 100", "opposite": "C = 1"}


def test_folds_choose_where_rows_are_few_and_the_selection_rows_are_fitted_too() -> None:
    train = text_rows(["red cat", "red dog", "blue cat", "blue dog"] * 5, [0, 0, 1, 1] * 5)
    misleading = text_rows(["red cat", "blue dog"], [1, 0])
    only_here = text_rows(["green cat", "green dog"], [1, 1])
    report = text_rows(["green fox"], [1])
    folds = np.arange(22) % 5
    alone = BaselineRows(train=train, selection=misleading, report=report)
    assert words.bag_of_words(alone, num_labels=2, scoring=Scoring()).setting == "C = 1"
    rows = BaselineRows(train=train, selection=only_here, report=report, folds=folds)
    chosen = words.bag_of_words(rows, num_labels=2, scoring=Scoring())
    assert chosen.setting == "C = 100"
    assert chosen.held_out.shape == (22, 2)
    assert chosen.held_out_labels.tolist() == [0, 0, 1, 1] * 5 + [1, 1]
    assert chosen.report.argmax() == 1, "green is known from the selection rows alone"


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["red", "blue", "green"], [0, 1, 2]),  # no label has two rows
        (["red", "blue", "green"], [1, 1, 1]),  # one label only
        (["好", "坏", "好"], [0, 1, 0]),  # no word of two letters
        (["", " ", ""], [0, 1, 0]),  # nothing at all
    ],
)
def test_rows_that_are_hard_to_fit_still_get_answers(texts: list[str], labels: list[int]) -> None:
    rows = text_rows(texts, labels)
    log_probs = words.bag_of_words(
        BaselineRows(train=rows, selection=rows, report=rows), num_labels=4, scoring=Scoring()
    ).report
    assert log_probs.shape == (3, 4)
    assert np.isfinite(log_probs).all()
    assert set(log_probs.argmax(axis=1)) <= set(labels)


def test_numbers_are_fitted_by_regression_and_answered_on_their_grid(tiny: Backbone, tmp_path: Path) -> None:
    names = ["0", "1", "2", "3"]
    lines = [{"text": " ".join(["good"] * count + ["film"] * (3 - count)), "label": str(count)} for count in range(4)]
    path = write_rows(tmp_path / "train.jsonl", lines * 20)
    spec = TaskSpec(template="text: {text}", labels={name: name for name in names}, max_tokens=32, kind="ordinal")
    task = TaskFile(
        name="stars", spec=spec, metrics=("pearson",), data=DataSource(train=str(path), validation=str(path))
    )
    rows = TaskRows(tiny, task).divided(split="honest", seed=0, limit=None)
    found = {each.name: each for each in Baselines(tiny).answers(rows.for_baselines, task)}
    assert found["tfidf"].setting.startswith("alpha = ")
    measured = {
        each.name: each.figures["pearson"]
        for each in compared(
            list(found.values()), found["head"].answers, rows.report, num_labels=4, scoring=task.scoring
        )
    }
    assert measured["tfidf"] > 0.9
    assert measured["constant"] == 0.0
    assert found["constant"].answers[0] in (1, 2), "the median of numbers that are equally common"


def test_baselines_are_fitted_once_for_each_set_of_rows(tiny: Backbone, task: TaskFile, rows: BaselineRows) -> None:
    baselines = Baselines(tiny)
    fitted: list[str] = []
    for _ in range(2):
        baselines.answers(rows, task, on_fit=fitted.append)
    assert fitted == ["constant", "zero_shot", "tfidf", "head"]
    other = TaskRows(tiny, task).divided(split="honest", seed=1, limit=None).for_baselines
    baselines.answers(other, task, on_fit=fitted.append)
    assert fitted[4:] == ["constant", "tfidf", "head"], "the untrained model depends on the report rows alone"
    baselines.answers(other, replace_metrics(task), names=["tfidf"], on_fit=fitted.append)
    assert fitted[7:] == ["tfidf"], "the metric chooses the strength"


def replace_metrics(task: TaskFile) -> TaskFile:
    return task.model_copy(update={"metrics": ("macro_f1",)})


def test_a_row_is_encoded_once_whatever_divisions_it_is_in(
    tiny: Backbone, rows: BaselineRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = FrozenStates(tiny)
    first = states.of(rows.train.tokenized)
    monkeypatch.setattr(tiny, "encode", None)  # another forward would fail
    assert np.array_equal(states.of(rows.train.first(20).tokenized), first[:20])


def test_a_lead_is_the_score_less_the_baselines(tiny: Backbone, task: TaskFile, rows: BaselineRows) -> None:
    report = rows.report.tokenized
    fitted = Baselines(tiny).answers(rows, task)
    for baseline, answers in zip(
        compared(fitted, report.labels, report, num_labels=2, scoring=task.scoring), fitted, strict=True
    ):
        accuracy = float((answers.answers == report.labels).mean())
        assert baseline.figures["accuracy"] == pytest.approx(accuracy)
        assert baseline.lead.value == pytest.approx(1 - accuracy)
        assert ("loss" in baseline.figures) == (baseline.name != "constant")
