"""One job's rows in a step, and backpropagation from them to the parameters of method and readout."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.loop.distillation import Teacher
from training.loop.job import LabelLoss, TrainingJob
from training.methods import InputDependent, OwnModel

RowKind = tuple[bool, bool, int, str, bool]
"""Decides which rows can share a pass."""


class PromptBatch:
    """One job's part of a step: its rows, each with a copy of the prompt to run a pass with.

    Each row's gradient is kept apart, and they are summed in the order of the batch. What a job learns therefore does
    not depend on how the step was divided into passes. The graph of a pass is freed as soon as the pass is done;
    `backward` traverses the method's own graph once.
    """

    def __init__(self, job: TrainingJob, rows: NDArray[np.int64], losses: Sequence[LabelLoss], *, step: int) -> None:
        """Compute the prompt of each row.

        Args:
            rows: indices of the training rows, [B]
            losses: by label, [K]; one for all rows of a multi-label job
            step: the number of optimiser steps so far, from which the dropout seeds are derived
        """
        self._method = method = job.method
        prompts: Sequence[Tensor]
        if isinstance(method, InputDependent):
            self._prompt = method.prompts([job.rows.token_ids[row] for row in rows])  # [B, P, H]
            prompts = list(self._prompt)
        else:
            self._prompt = method.prompt()  # [P, H]
            prompts = [self._prompt] * len(rows)
        self.rows = [
            BatchRow(job, int(row), prompt.detach().requires_grad_(), losses)
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        if job.arguments.dropout:
            seeds = dropout_seeds(job.arguments.seed, step=step, count=len(rows))
            for batch_row, seed in zip(self.rows, seeds, strict=True):
                batch_row.dropout_seed = seed
        if job.arguments.token_dropout:
            self._drop_tokens(job, step=step)
        self._readout = job.readout
        if self._readout is not None and job.arguments.readout_dropout:
            for batch_row, kept in zip(self.rows, self._kept(job, step=step), strict=True):
                batch_row.kept = kept
        # the mean over a batch's tokens, as `transformers` takes it
        if job.arguments.loss == "full":
            num_tokens = sum(row.num_target_tokens for row in self.rows)
            for batch_row in self.rows:
                batch_row.weight *= len(rows) / num_tokens

    @property
    def loss(self) -> float:
        """The mean loss of the rows."""
        return float(np.mean([row.loss for row in self.rows]))

    def backward(self) -> None:
        """Propagate the mean gradient of the rows to the parameters."""
        if self._readout is not None:
            gradients, states = zip(*((row.logit_gradient, row.state) for row in self.rows), strict=True)
            self._readout.backward(torch.stack(gradients), torch.stack(states))
        if isinstance(self._method, OwnModel):
            # the passes have already summed the gradients of its parameters over the rows
            for group in self._method.parameter_groups():
                for parameter in group["params"]:
                    parameter.grad = None if parameter.grad is None else parameter.grad / len(self.rows)
            return
        if not self._prompt.requires_grad:
            return
        prompts = torch.stack([row.prompt.grad for row in self.rows if row.prompt.grad is not None])  # [B, P, H]
        is_per_row = isinstance(self._method, InputDependent)
        self._prompt.backward(prompts / len(prompts) if is_per_row else prompts.mean(0))  # type: ignore[no-untyped-call]

    def _drop_tokens(self, job: TrainingJob, *, step: int) -> None:
        """Remove each token of a row's text with the rate's probability, except the last, the end of the sequence."""
        (seed,) = dropout_seeds(job.arguments.seed, step=step, count=1, stream=2)
        random = np.random.default_rng(seed)
        for row in self.rows:
            is_kept = random.random(len(row.token_ids)) >= job.arguments.token_dropout
            is_kept[-1] = True
            row.token_ids = tuple(token for token, kept in zip(row.token_ids, is_kept, strict=True) if kept)

    def _kept(self, job: TrainingJob, *, step: int) -> Tensor:
        """Return the dropout factors of each row's state, [B, S·H]: 0 or 1 / (1 − rate)."""
        assert job.readout is not None, "only the states of learned readouts are dropped"
        rate = job.arguments.readout_dropout
        (seed,) = dropout_seeds(job.arguments.seed, step=step, count=1, stream=1)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.empty(len(self.rows), job.readout.width).bernoulli_(1 - rate, generator=generator)
        return kept / (1 - rate)


def dropout_seeds(seed: int, *, step: int, count: int, stream: int = 0) -> list[int]:
    """Return the dropout seeds of a step; a run that resumes from a checkpoint draws the same ones.

    Args:
        count: number of seeds
        stream: distinguishes independent draws of one step
    """
    entropy = [seed, step, stream] if stream else [seed, step]
    seeds: list[int] = np.random.SeedSequence(entropy).generate_state(count, np.uint64).tolist()
    return seeds


class BatchRow:
    """A training row in a step."""

    __slots__ = (
        "choices",
        "decision_weights",
        "decisions",
        "dropout_seed",
        "kept",
        "label",
        "logit_gradient",
        "loss",
        "model",
        "prompt",
        "readout",
        "smoothing",
        "state",
        "target",
        "teacher",
        "token_ids",
        "trie",
        "weight",
    )

    def __init__(self, job: TrainingJob, row: int, prompt: Tensor, losses: Sequence[LabelLoss]) -> None:
        self.prompt = prompt  # [P, H], its gradient is this row's alone
        self.model = job.method if isinstance(job.method, OwnModel) else None
        self.token_ids = job.rows.token_ids[row]
        self.label = None if job.rows.is_multi_label else int(job.rows.labels[row])
        """None in a multi-label job."""
        self.decisions: Tensor | None = None  # [K] of 0 and 1, which labels the row has; None if it has one
        self.decision_weights: Tensor | None = None  # [K], the factors of its labels' losses, if any
        own = losses[0 if self.label is None else self.label]
        self.trie = job.trie
        self.choices = own.choices
        self.target = own.target
        self.weight = own.weight
        """The factor of its loss."""
        if self.label is None:
            self.decisions = torch.from_numpy(job.rows.labels[row]).float()
            if own.decision_weights is not None:
                without, having = own.decision_weights
                self.decision_weights = torch.where(self.decisions == 1, having, without)
        self.dropout_seed: int | None = None
        """The seed of the frozen network's dropout; None without dropout."""
        self.teacher: Teacher | None = job.teacher
        self.readout = job.readout
        """None if the label words are the readout."""
        self.smoothing = job.arguments.label_smoothing
        self.kept: Tensor | None = None  # [S·H], factors of dropout on the state that a learned readout reads, if any
        self.state: Tensor | None = None  # [S·H], that state, after the row's pass
        self.logit_gradient: Tensor | None = None  # [K], of the row's loss, after the row's pass
        self.loss = math.nan
        """In nats, after the row's pass."""

    @property
    def num_tokens(self) -> int:
        """The tokens that it adds to a packed pass."""
        return self.prompt.shape[0] + len(self.token_ids)

    @property
    def num_target_tokens(self) -> int:
        """The tokens of its label words and end-of-sequence."""
        return 0 if self.target is None else self.target.num_nodes

    @property
    def kind(self) -> RowKind:
        """Rows of the same kind can share a pass."""
        state = "words" if self.readout is None else self.readout.state
        return (self.dropout_seed is None, self.target is None, id(self.model), state, self.teacher is None)
