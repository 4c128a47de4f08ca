"""`rank_starts`: adapters as starts of a new task, ranked by their similarity and by short trials.

A similarity needs a prompt of the new task to compare with. As SPoT does (Vu et al. 2022, §4.1), it is trained for a
few steps. A trial trains from an adapter's prompt instead, for as many steps as the others. All of them train in one
stack, and the rows that trials are scored on are held-out training rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapters.adapter import PromptAdapter
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.config.presets import train_arguments
from training.errors import InvalidArguments
from training.loop.events import StepEvent, TrainResult
from training.loop.job import TrainingJob
from training.loop.train import train_stack
from training.methods import Method, Simple
from training.methods.factory import make_method
from training.runs.task_rows import TaskRows
from training.scoring.transferability import (
    mean_similarity,
    sampled_rows,
    token_similarity,
    transferability,
)
from training.task.task_file import TaskFile

MAX_ROWS = 1_024
"""Training rows that a ranking reads, unless it is asked for others."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter that a new task could start from."""

    name: str
    """Its folder or its reference in a registry."""
    adapter: PromptAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedStart:
    """A candidate with its figures."""

    name: str
    digest: str
    method: str
    """The method that its prompt was trained with."""
    num_virtual_tokens: int
    mean_similarity: float
    """SPoT: the cosine of the mean vectors of its prompt and the new task's, −1 to 1."""
    token_similarity: float
    """SPoT: the mean cosine over all pairs of their vectors."""
    transferability: float
    """PANDA: the cosine of the mean states behind both prompts."""
    trial_score: float | None
    """The best score on the selection rows of a trial from it; None without trials."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates, the best first, and the trial of a start at sampled tokens."""

    starts: tuple[RankedStart, ...]
    own_score: float | None
    """The best score of the new task's own short training; None without trials."""
    metric: str

    @property
    def best(self) -> RankedStart | None:
        """The best start; None if the own start scored at least as well in the trials."""
        first = self.starts[0]
        if first.trial_score is not None and self.own_score is not None and self.own_score >= first.trial_score:
            return None
        return first


def rank_starts(
    backbone: Backbone,
    task: TaskFile,
    candidates: Sequence[Candidate],
    *,
    steps: int,
    trial: bool,
    limit: int | None = MAX_ROWS,
    seed: int = 0,
    on_step: Callable[[StepEvent], None] = lambda event: None,
) -> Ranking:
    """Rank adapters as starts of a task: by the score of a trial if there are trials, else by the transferability.

    Args:
        steps: optimiser steps of the new task's own prompt, and of each trial
        trial: also train from each candidate
        limit: training rows
        on_step: called after each step of the new task's own prompt

    Raises:
        InvalidArguments: there is no candidate with a prompt, or the task has no label words to train with
        InvalidData: the task's rows cannot be read
    """
    if task.spec.is_multi_label:
        raise InvalidArguments(f"task {task.name!r} is multi_label, expected one with label words, which trials score")
    usable = [each for each in candidates if len(each.adapter.prompt)]
    if not usable:
        raise InvalidArguments(f"none of {len(candidates)} adapters has a prompt, expected at least one to start from")
    prompts = [torch.from_numpy(each.adapter.prompt.copy()).to(backbone.device) for each in usable]
    jobs = _jobs(backbone, task, prompts if trial else [], steps=steps, limit=limit, seed=seed, like=prompts[0])
    own, *trials = train_stack(backbone, [replace(jobs[0], on_step=on_step), *jobs[1:]])
    target = torch.from_numpy(own.evaluations[-1].prompt.copy()).to(backbone.device)
    rows = sampled_rows(jobs[0].rows.token_ids, seed=seed)
    scores = [_best_score(result) for result in trials] if trial else [None] * len(usable)
    starts = [
        RankedStart(
            name=candidate.name,
            digest=candidate.adapter.digest,
            method=candidate.adapter.manifest.provenance.method,
            num_virtual_tokens=len(prompt),
            mean_similarity=mean_similarity(prompt, target),
            token_similarity=token_similarity(prompt, target),
            transferability=transferability(backbone, prompt, target, rows),
            trial_score=score,
        )
        for candidate, prompt, score in zip(usable, prompts, scores, strict=True)
    ]
    starts.sort(key=lambda start: (start.trial_score or 0.0, start.transferability), reverse=True)
    return Ranking(tuple(starts), _best_score(own) if trial else None, task.metric)


def _jobs(
    backbone: Backbone,
    task: TaskFile,
    prompts: Sequence[Tensor],
    *,
    steps: int,
    limit: int | None,
    seed: int,
    like: Tensor,
) -> list[TrainingJob]:
    """Return the job of the task's own prompt, as long as `like`, and one for each prompt to start from."""
    rows = TaskRows(backbone, task).divided(split="honest", seed=seed, limit=limit, max_selection=limit)
    trie = backbone.label_trie(task.spec.label_words)

    def job(arguments: TrainArguments, method: Method) -> TrainingJob:
        return TrainingJob(
            method=method,
            arguments=arguments,
            trie=trie,
            rows=rows.train,
            selection=rows.selection,
            label_words=tuple(task.spec.label_words),
            scoring=task.scoring,
        )

    arguments = train_arguments(
        {
            "method": "simple",
            "num_virtual_tokens": len(like),
            "max_steps": steps,
            "epochs": 100_000,
            "eval_every": max(1, steps // 4),
            "patience": 0,
            "seed": seed,
        }
    )
    starts = [Simple(prompt, weight_decay=arguments.weight_decay) for prompt in prompts]
    own = make_method(arguments, backbone.weights.embedding)
    return [job(arguments, own), *(job(arguments, start) for start in starts)]


def _best_score(result: TrainResult) -> float:
    return result.best.score
