"""Baselines of multi-label tasks: what is fitted, under which thresholds, and the lead over them."""

import numpy as np
import pytest
from sklearn import metrics as reference
from support.training import TOPICS, topics_task

from backbone import Backbone
from training.baselines.comparison import baselines_of, compared
from training.baselines.fitting import Baselines
from training.runs.task_rows import TaskRows
from training.scoring.decisions import decide
from training.scoring.metrics import measure
from training.scoring.paired import Ranked, decisions_lead
from training.task.scoring import Scoring


def test_label_words_are_not_a_baseline_of_a_multi_label_task() -> None:
    assert baselines_of("superpos", TOPICS) == ("constant", "tfidf", "head")
    assert baselines_of("head", TOPICS) == ("constant", "tfidf")


@pytest.mark.slow
@pytest.mark.parametrize("rows", [120, 600])
def test_baselines_find_labels_that_stand_in_the_text_and_a_constant_the_best_set(
    tiny: Backbone, tmp_path_factory: pytest.TempPathFactory, rows: int
) -> None:
    task = topics_task(tmp_path_factory.mktemp("topics"), rows=rows)
    divided = TaskRows(tiny, task).divided(split="honest", seed=0, limit=None)
    names = baselines_of("superpos", TOPICS)
    fitted = Baselines(tiny).answers(divided.for_baselines, task, names=names)
    constant, tfidf, _ = fitted
    assert constant.setting.startswith("always ")
    assert len(np.unique(constant.answers, axis=0)) == 1
    assert tfidf.setting.startswith("C = ")
    labels = divided.report.labels
    scores = {each.name: reference.f1_score(labels, each.answers, average="micro") for each in fitted}
    assert scores["tfidf"] > 0.9
    assert scores["head"] > scores["constant"]
    perfect = np.where(labels == 1, -1e-4, -9.0).astype(np.float32)
    found = compared(
        fitted, labels, divided.report, num_labels=len(TOPICS.labels), scoring=task.scoring, log_probs=perfect
    )
    for baseline, answers in zip(found, fitted, strict=True):
        assert baseline.figures["micro_f1"] == pytest.approx(scores[baseline.name])
        assert ("loss" in baseline.figures) == (baseline.name != "constant")
        macro = reference.f1_score(labels, answers.answers, average="macro", zero_division=0)
        score = (scores[baseline.name] + macro) / 2
        assert baseline.lead.value == pytest.approx(1 - score, abs=0.02)
        assert baseline.lead.low <= baseline.lead.value <= baseline.lead.high


def test_the_lead_of_multi_label_answers_is_paired() -> None:
    draw = np.random.default_rng(0)
    labels = (draw.random((300, 3)) < 0.4).astype(np.int64)
    logits = draw.normal(size=labels.shape) + 2 * labels - 1
    scores = -np.logaddexp(0, -logits).astype(np.float32)
    scoring = Scoring(metrics=("micro_f1", "map"), multi_label=True)
    ours = Ranked(scores, decide(scores, multi_label=True))
    same = decisions_lead(ours, ours, labels, scoring=scoring)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    flipped = ours.decisions.copy()
    flipped[:20] = 1 - flipped[:20]
    other = Ranked(scores, flipped)
    found = decisions_lead(ours, other, labels, scoring=scoring)
    answers = [reference.f1_score(labels, each.decisions, average="micro") for each in (ours, other)]
    assert found.value == pytest.approx((answers[0] - answers[1]) / 2)
    alone = measure(scores, labels, scoring=scoring)
    assert found.high - found.low < 0.1 < alone.score
