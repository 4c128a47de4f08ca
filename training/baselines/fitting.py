"""`Baselines`: fits the baselines of runs, once for each set of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapters.baselines import BASELINES, BaselineName
from adapters.calibration import Calibration
from backbone import Backbone
from training.baselines.bag_of_words import bag_of_words
from training.baselines.candidates import Chosen
from training.baselines.frozen_head import FrozenStates, frozen_head
from training.baselines.rows import BaselineRows
from training.scoring.decisions import Labels, decide, fit_label_thresholds
from training.scoring.evaluation import predict
from training.scoring.metrics import answer_metrics, group_codes
from training.scoring.multi_label import constant_answers, multi_label_metrics
from training.scoring.out_of_fold import LogProbs
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaselineAnswers:
    """The answers of a baseline to the report rows."""

    name: BaselineName
    answers: Labels
    log_probs: LogProbs | None = None  # [n, K]; None for a constant answer
    setting: str = ""
    """The choice of the held-out rows, such as `C = 10`."""


class Baselines:
    """Fits baselines with a float32 backbone; runs of the same rows share them."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._states = FrozenStates(backbone)
        self._known: dict[tuple[str, ...], BaselineAnswers] = {}

    def answers(
        self,
        rows: BaselineRows,
        task: TaskFile,
        *,
        names: Sequence[BaselineName] = BASELINES,
        on_fit: Callable[[BaselineName], None] = lambda name: None,
    ) -> list[BaselineAnswers]:
        """Return the answers of baselines to the report rows.

        Args:
            on_fit: called before a baseline is fitted; not if its answers are known
        """
        of_task = (task.model_dump_json(include={"spec", "metrics", "positive"}), rows.report.tokenized.digest())
        of_rows = (
            *of_task,
            *(role.tokenized.digest() for role in (rows.train, rows.selection)),
            str(rows.folds is None),
        )
        fits: dict[BaselineName, tuple[tuple[str, ...], Callable[[], BaselineAnswers]]] = {
            "constant": (of_rows, lambda: _constant(rows, task)),
            "zero_shot": (of_task, lambda: self._zero_shot(rows, task)),
            "tfidf": (of_rows, lambda: _tfidf(rows, task)),
            "head": (of_rows, lambda: self._head(rows, task)),
        }
        found = []
        for name in names:
            key, fit = fits[name]
            if (name, *key) not in self._known:
                on_fit(name)
                self._known[(name, *key)] = fit()
            found.append(self._known[(name, *key)])
        return found

    def _zero_shot(self, rows: BaselineRows, task: TaskFile) -> BaselineAnswers:
        """Score the label words by the model as it is, without a prompt."""
        none = torch.zeros(0, self._backbone.width, device=self._backbone.device)
        trie = self._backbone.label_trie(task.spec.label_words)
        return _answers("zero_shot", predict(self._backbone, none, trie, rows.report.tokenized.token_ids))

    def _head(self, rows: BaselineRows, task: TaskFile) -> BaselineAnswers:
        num_labels = len(task.spec.labels)
        return _chosen("head", frozen_head(self._states, rows, num_labels=num_labels, scoring=task.scoring))


def _tfidf(rows: BaselineRows, task: TaskFile) -> BaselineAnswers:
    return _chosen("tfidf", bag_of_words(rows, num_labels=len(task.spec.labels), scoring=task.scoring))


def _chosen(name: BaselineName, chosen: Chosen) -> BaselineAnswers:
    """Return the answers of a fitted model; multi-label ones under thresholds that its held-out rows choose."""
    if chosen.held_out_labels.ndim == 1:
        return _answers(name, chosen.report, chosen.setting)
    fit = fit_label_thresholds(np.exp(chosen.held_out.astype(np.float64)), chosen.held_out_labels)
    decisions = decide(chosen.report, multi_label=True, calibration=Calibration(label_thresholds=fit.thresholds))
    return BaselineAnswers(name=name, answers=decisions, log_probs=chosen.report, setting=chosen.setting)


def _answers(name: BaselineName, log_probs: LogProbs, setting: str = "") -> BaselineAnswers:
    return BaselineAnswers(name=name, answers=log_probs.argmax(axis=1), log_probs=log_probs, setting=setting)


def _constant(rows: BaselineRows, task: TaskFile) -> BaselineAnswers:
    """Give every row the label that scores best on the training rows; of equals the most common, or the median."""
    train = rows.train.tokenized
    if train.is_multi_label:
        return _constant_labels(rows, task)
    present, counts = np.unique(train.labels, return_counts=True)
    num_labels, scoring = len(task.spec.labels), task.scoring
    groups, centre = group_codes(train.groups, len(train)), np.median(train.labels)

    def rank(index: int) -> tuple[float, float]:
        answers = np.full_like(train.labels, present[index])
        values = answer_metrics(answers, train.labels, groups, num_labels=num_labels, scoring=scoring)
        score = sum(values[name] for name in scoring.metrics)
        return score, -abs(present[index] - centre) if task.spec.kind == "ordinal" else counts[index]

    best = present[max(range(len(present)), key=rank)]
    label = task.spec.label_names[best]
    return BaselineAnswers(name="constant", answers=np.full(len(rows.report), best), setting=f"always {label!r}")


def _constant_labels(rows: BaselineRows, task: TaskFile) -> BaselineAnswers:
    """Give every row the labels that score best on the training rows of a multi-label task."""
    labels, scoring = rows.train.tokenized.labels, task.scoring
    equal = np.zeros(labels.shape, dtype=np.float32)

    def score(answer: Labels) -> float:
        values = multi_label_metrics(equal, np.broadcast_to(answer, labels.shape), labels, scoring)
        return sum(values[name] for name in scoring.metrics)

    best = max(constant_answers(labels), key=score)
    named = [name for name, given in zip(task.spec.label_names, best, strict=True) if given]
    return BaselineAnswers(
        name="constant",
        answers=np.tile(best, (len(rows.report), 1)),
        setting=f"always {', '.join(map(repr, named)) or 'no label'}",
    )
