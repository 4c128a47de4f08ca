"""The fits of a job without a prompt: a head for each candidate, with the metrics that choose among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backbone.readout import PARTS
from training.loop.job import TrainingJob
from training.readouts.candidates import FitHead, head_families, scores_of
from training.readouts.head import Head
from training.scoring.metrics import Metrics
from training.scoring.out_of_fold import OutOfFold, cross_validate


@dataclass(frozen=True, slots=True, eq=False)
class FittedHead:
    """A candidate, fitted."""

    head: Head
    metrics: Metrics
    """On rows that it was not fitted to: the selection rows, or out of fold."""
    train_loss: float
    """On the rows that it was fitted to, in nats."""
    out_of_fold: OutOfFold | None = None
    """The predictions that `metrics` are of, where rows are few."""


def num_candidates(job: TrainingJob) -> int:
    """Return the largest number of heads that `fit_candidates` yields."""
    return sum(map(len, _families(job)))


def fit_candidates(
    job: TrainingJob,
    states: NDArray[np.float32],  # [n, S·H], of the training rows
    held_out: NDArray[np.float32],  # [s, S·H], of the selection rows
) -> Iterator[FittedHead]:
    """Yield a head for each candidate.

    It is fitted to the training rows; where rows are few (`job.folds`), to the selection rows too.
    """
    families = _families(job)
    fits = {name: fit for family in families for name, fit in family.items()}
    if job.folds is None:
        for fit in fits.values():
            head = fit(states, job.rows.labels)
            loss = job.rows.measured(head.log_probs(states), job.scoring).loss
            yield FittedHead(head, job.selection.selected_by(head.log_probs(held_out), job.scoring), loss)
        return
    rows, features = job.all_rows, np.concatenate([states, held_out])
    for candidate in cross_validate(scores_of(families), features, rows, job.folds, scoring=job.scoring):
        head = fits[candidate.name](features, rows.labels)
        loss = rows.measured(head.log_probs(features), job.scoring).loss
        yield FittedHead(head, candidate.metrics, loss, candidate.predictions)


def _families(job: TrainingJob) -> list[Mapping[str, FitHead]]:
    readout = job.readout
    assert readout is not None, "a job without a prompt has a learned readout"
    # label words are spelt by the decoder, so only its state is scored by their vectors, the encoder's by zeros
    has_words = "soft" in PARTS[readout.state] and not job.rows.is_multi_label
    return head_families(
        readout.num_labels,
        job.scoring,
        are_few=job.folds is not None,
        word_vectors=readout.start.vectors.cpu().numpy() if has_words else None,
    )
