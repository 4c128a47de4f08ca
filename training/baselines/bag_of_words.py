"""A bag of words: TF-IDF under logistic regression or, for labels that are numbers, ridge regression.

It is what a practitioner tries first, done well: words and pairs of words, and pieces of two to four characters within
words, which forgive spelling (banking77: 0.908 instead of 0.884, tickets: 0.658 instead of 0.550). The strength of
regularisation is chosen on rows that are not reported.
"""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.baselines.candidates import Chosen, RoleFeatures, best_of
from training.baselines.regression import fit_ridge
from training.baselines.rows import BaselineRows
from training.readouts.head import ABSENT
from training.scoring.decisions import Labels
from training.scoring.out_of_fold import Features, Fit, LogProbs, Predict
from training.task.scoring import Scoring

STRENGTHS = (1.0, 10.0, 100.0)
"""Values of C that are tried, the inverse of the regularisation; the strongest regularisation first."""
STRENGTHS_OF_MANY = (10.0, 100.0)
"""The same with more than `_MANY_LABELS` labels, whose fits take long."""
MAX_ROWS_BY_PIECE = 20_000
"""With more training rows only words are counted: pieces would multiply the time, and gain less with many rows."""
ALPHAS = (10.0, 1.0, 0.1)
"""Values of ridge regression's alpha that are tried; the strongest regularisation first."""
_MAX_ITERATIONS = 1_000
_MANY_LABELS = 20
"""With more labels, one binary fit per label takes a third of the time of one for all: 2.4 s instead of 8.6 s for the
words of 8,500 rows with 77 labels, on one core and at the same accuracy."""


_TINY = 1e-13


def bag_of_words(rows: BaselineRows, *, num_labels: int, scoring: Scoring) -> Chosen:
    """Return the scores of the chosen model."""
    chosen = best_of(_families(num_labels, scoring), _features(rows), rows, scoring=scoring)
    return chosen if _counts_pieces(rows) else replace(chosen, setting=f"{chosen.setting}, words only")


def _counts_pieces(rows: BaselineRows) -> bool:
    return len(rows.train) <= MAX_ROWS_BY_PIECE


def _families(num_labels: int, scoring: Scoring) -> list[Mapping[str, Fit]]:
    """Return the models that are tried: ridge regression if the labels are numbers, logistic regression otherwise."""
    if scoring.values is not None:
        grid = np.array(scoring.values, dtype=np.float64)
        return [{f"alpha = {alpha:g}": partial(fit_ridge, grid=grid, alpha=alpha) for alpha in ALPHAS}]
    strengths = STRENGTHS_OF_MANY if num_labels > _MANY_LABELS else STRENGTHS
    return [
        {
            f"C = {strength:g}": partial(_fit_logistic, num_labels=num_labels, strength=strength)
            for strength in strengths
        }
    ]


def _features(rows: BaselineRows) -> RoleFeatures:
    """Weigh the words and pieces of all rows, by the counts in the rows that are fitted."""
    from scipy.sparse import hstack  # noqa: PLC0415 - takes a second to import
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

    roles = (rows.fitted.texts, rows.selection.texts, rows.report.texts)
    kinds: list[dict[str, Any]] = [{"ngram_range": (1, 2)}]
    if _counts_pieces(rows):
        kinds.append({"analyzer": "char_wb", "ngram_range": (2, 4)})
    parts = []
    for kind in kinds:
        vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **kind)
        # no text may have a word of two letters, as in some scripts
        with suppress(ValueError):
            vectorizer.fit(roles[0])
            parts.append([vectorizer.transform(texts) for texts in roles])
    if parts:
        fitted, selection, report = (hstack(role).tocsr() for role in zip(*parts, strict=True))
    else:  # no text has a letter
        fitted, selection, report = (np.zeros((len(texts), 1), dtype=np.float32) for texts in roles)
    return RoleFeatures(fitted=fitted, selection=selection, report=report)


def _fit_logistic(features: Features, labels: Labels, *, num_labels: int, strength: float) -> Predict:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - as above
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.multiclass import OneVsRestClassifier  # noqa: PLC0415

    if labels.ndim == 2:
        return _fit_each(features, labels, strength=strength)
    present = np.unique(labels)
    if len(present) == 1:
        return lambda other: _spread(np.zeros((other.shape[0], 1)), present, num_labels)
    if len(present) > _MANY_LABELS:
        model = OneVsRestClassifier(LogisticRegression(C=strength, tol=1e-2, solver="liblinear"))
    else:
        model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that has not converged is a baseline all the same
        model.fit(features, labels)
    return lambda other: _spread(np.log(np.maximum(model.predict_proba(other), _TINY)), present, num_labels)


def _fit_each(features: Features, labels: Labels, *, strength: float) -> Predict:
    """Fit each label of a multi-label task against the rest; one that no row has, or all have, is constant."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as above

    varies = labels.any(axis=0) & ~labels.all(axis=0)  # [K]
    models = {
        label: LogisticRegression(C=strength, solver="liblinear").fit(features, labels[:, label])
        for label in np.flatnonzero(varies).tolist()
    }

    def predict(other: Features) -> LogProbs:
        log_probs = np.full((other.shape[0], labels.shape[1]), ABSENT, dtype=np.float32)
        log_probs[:, labels.all(axis=0)] = -_TINY
        for label, model in models.items():
            log_probs[:, label] = np.log(np.maximum(model.predict_proba(other)[:, 1], _TINY))
        return log_probs

    return predict


def _spread(log_probs: NDArray[np.float64], present: NDArray[np.int64], num_labels: int) -> LogProbs:
    """Place the columns of the labels that occur, [n, K'], among all labels, [n, K]."""
    spread = np.full((len(log_probs), num_labels), ABSENT, dtype=np.float32)
    spread[:, present] = np.maximum(log_probs, ABSENT)
    return spread
