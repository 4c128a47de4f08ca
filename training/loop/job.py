"""`TrainingJob`: everything that one prompt of a stack is trained with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone import Backbone, LabelTrie, Readout
from training.config.arguments import TrainArguments
from training.data.balance import decision_weights, label_weights
from training.errors import InvalidArguments
from training.loop.distillation import Teacher
from training.loop.events import EvalEvent, RestoreEvent, StepEvent
from training.methods import Method
from training.readouts.trained import TrainedReadout
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics
from training.task.scoring import ACCURACY, Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One prompt to train, and its readout. The jobs of a stack share nothing but the frozen backbone."""

    method: Method
    arguments: TrainArguments
    trie: LabelTrie
    readout: TrainedReadout | None = None
    """None if the label words of the trie are the readout."""
    rows: TokenizedRows
    selection: TokenizedRows
    label_words: tuple[str, ...] = ()
    """[K], the words that the trie is built from; only `loss: full` needs them."""
    scoring: Scoring = ACCURACY
    folds: NDArray[np.int64] | None = None  # [n]
    """The fold of each of `all_rows`, for a job without a prompt whose rows are few; None if the selection rows choose.
    """
    teacher: Teacher | None = None
    """A frozen prompt that the job also learns from; only with label words."""
    on_step: Callable[[StepEvent], None] = lambda event: None
    on_evaluation: Callable[[EvalEvent], None] = lambda event: None
    on_restore: Callable[[RestoreEvent], None] = lambda event: None
    """Called before any other event if the job resumes from a checkpoint."""
    should_prune: Callable[[EvalEvent, Metrics], bool] = lambda event, best: False
    """Called after each evaluation except the first and the last, with the best metrics so far; true ends the job."""

    @property
    def all_rows(self) -> TokenizedRows:
        """The training rows, followed by the selection rows."""
        return self.rows.joined(self.selection)

    @property
    def scored_by(self) -> Readout:
        """The current readout; later steps change it."""
        return self.trie if self.readout is None else self.readout.label_vectors

    @property
    def started_by(self) -> Readout:
        """The readout before training."""
        return self.trie if self.readout is None else self.readout.start


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """Targets of the loss of a row with a certain label."""

    weight: float
    choices: LabelTrie
    """The part of the trie that the label's own log-probability depends on."""
    target: LabelTrie | None
    """The label's words as a chain, for `loss: full`."""
    decision_weights: Tensor | None = None  # [2, K]
    """Multi-label jobs: the weights of rows without and with each label."""


def label_losses(job: TrainingJob, backbone: Backbone) -> tuple[LabelLoss, ...]:
    """Return the ingredients of each label's loss, [K]; of a multi-label job, those of any row, [1].

    Raises:
        InvalidArguments: `loss: full` without a word for each label
    """
    if job.rows.is_multi_label:
        balanced = torch.from_numpy(decision_weights(job.rows.labels)).float() if job.arguments.class_weights else None
        return (LabelLoss(1.0, job.trie, None, balanced),)
    labels = range(job.trie.num_labels)
    weights = (
        label_weights(job.rows.labels, num_labels=len(labels)) if job.arguments.class_weights else np.ones(len(labels))
    )
    targets: list[LabelTrie | None] = [None for _ in labels]
    if job.arguments.loss == "full":
        if len(job.label_words) != len(labels):
            raise InvalidArguments(f"loss 'full' was given {len(job.label_words)} label words, expected {len(labels)}")
        targets = [backbone.target(words) for words in job.label_words]
    return tuple(LabelLoss(float(weights[label]), job.trie.of_label(label), targets[label]) for label in labels)
