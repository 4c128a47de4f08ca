"""`rank_starts`: adapters as starts of a new task, ranked by their similarity and by short trials.

A similarity needs a prompt of the new task to compare with. As SPoT does (Vu et al. 2022, §4.1), it is trained for a
few steps. A trial trains from an adapter's prompt instead, for as many steps, and one more trains by SuperPos, as a
run without a source does. Trials train in one stack, and the rows that they are scored on are held-out training rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.adapter import PromptAdapter
from backbone import Backbone
from training.config.arguments import TrainArguments, used_arguments
from training.config.choices import MethodName
from training.config.presets import NO_PATIENCE, train_arguments
from training.data.examples import Example
from training.data.row_files import RowFiles
from training.data.splits import divide
from training.errors import InvalidArguments
from training.loop.events import StepEvent, TrainResult
from training.loop.job import TrainingJob
from training.loop.train import train_stack
from training.methods import Method, Simple
from training.methods.factory import make_method
from training.runs.task_rows import TaskRows
from training.scoring.exam import num_trained_on, row_key
from training.scoring.transferability import (
    mean_similarity,
    sampled_rows,
    token_similarity,
    transferability,
)
from training.task.task_file import TaskFile

MAX_ROWS = 1_024
"""Training rows that a ranking reads, unless it is asked for others."""
KEEP = 32
"""Candidates that it compares in full, unless it is asked for others."""


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
    """Candidates, the best first, and the trial without one."""

    starts: tuple[RankedStart, ...]
    own_score: float | None
    """The best score of a trial that starts from no candidate, by SuperPos; None without trials."""
    metric: str
    num_left_out: int = 0
    """Candidates that were not compared, because the prompts of others are more similar."""

    @property
    def best(self) -> RankedStart | None:
        """The best start; None if the trial without one scored at least as well."""
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
    keep: int = KEEP,
    limit: int | None = MAX_ROWS,
    shots: int | None = None,
    seed: int = 0,
    explicit: Mapping[str, Any] = MappingProxyType({}),
    on_step: Callable[[StepEvent], None] = lambda event: None,
) -> Ranking:
    """Rank adapters as starts of a task: by the score of a trial if there are trials, else by the transferability.

    Args:
        steps: optimiser steps of the new task's own prompt, and of each trial
        trial: also train from each candidate, and from none
        keep: how many candidates to compare, those with the largest mean similarity; each costs forwards or a trial
        limit: maximum number of training rows
        shots: training rows of each label, at most; None for all
        seed: divides the rows, as that of a run does
        explicit: options of the run that is to start, which the trials follow as far as their method uses them
        on_step: called after each step of the new task's own prompt, and of the trial without a candidate

    Raises:
        InvalidArguments: there is no candidate with a prompt, the task has no label words to train with, or an option
            is out of bounds
        InvalidData: the task's rows cannot be read
    """
    if task.spec.is_multi_label:
        raise InvalidArguments(f"task {task.name!r} is multi_label, expected one with label words, which trials score")
    usable = [each for each in candidates if len(each.adapter.prompt)]
    if not usable:
        raise InvalidArguments(f"none of {len(candidates)} adapters has a prompt, expected at least one to start from")
    trials = _Trials(
        backbone, task, steps=steps, limit=limit, shots=shots, seed=seed, explicit=explicit, on_step=on_step
    )
    own = trials.own(num_virtual_tokens=len(usable[0].adapter.prompt))
    target = _tensor(own.evaluations[-1].prompt, backbone)
    similar = {
        index: mean_similarity(_tensor(each.adapter.prompt, backbone), target) for index, each in enumerate(usable)
    }
    kept = sorted(similar, key=lambda index: similar[index], reverse=True)[:keep]
    prompts = [_tensor(usable[index].adapter.prompt, backbone) for index in kept]
    own_score, *scores = trials.scores(prompts) if trial else [None] * (1 + len(kept))
    starts = [
        RankedStart(
            name=usable[index].name,
            digest=usable[index].adapter.digest,
            method=usable[index].adapter.manifest.provenance.method,
            num_virtual_tokens=len(prompt),
            mean_similarity=similar[index],
            token_similarity=token_similarity(prompt, target),
            transferability=transferability(backbone, prompt, target, trials.sample),
            trial_score=score,
        )
        for index, prompt, score in zip(kept, prompts, scores, strict=True)
    ]
    starts.sort(key=lambda start: (start.trial_score or 0.0, start.transferability), reverse=True)
    return Ranking(tuple(starts), own_score, task.metric, len(usable) - len(kept))


def report_rows(files: RowFiles, *, seed: int) -> tuple[Example, ...]:
    """Return a task's report rows under a seed, without those that a training or selection row equals."""
    rows, labels = divide(files, split="honest", seed=seed), files.task.spec.label_names
    known = {row_key(example, labels) for example in (*rows.train, *rows.selection)}
    return tuple(row for row in rows.report if row_key(row, labels) not in known)


def num_report_rows_seen(adapter: PromptAdapter, files: RowFiles, report: Sequence[Example]) -> int:
    """Return how many report rows of a task trained an adapter or chose it, as far as its provenance says.

    Args:
        files: the task's
        report: from `report_rows`
    """
    if adapter.manifest.provenance.data.get("train_sha256") != files.train.sha256:
        return 0
    if adapter.spec.label_names != files.task.spec.label_names:
        return len(report)  # its division is unknown
    return num_trained_on(adapter, files, replace(files.train, examples=tuple(report)))


class _Trials:
    """Short trainings on a task's rows."""

    def __init__(
        self,
        backbone: Backbone,
        task: TaskFile,
        *,
        steps: int,
        limit: int | None,
        shots: int | None,
        seed: int,
        explicit: Mapping[str, Any],
        on_step: Callable[[StepEvent], None],
    ) -> None:
        """Read the rows."""
        self._backbone, self._task = backbone, task
        self._options = {
            **explicit,
            "readout": "words",
            "max_steps": steps,
            "epochs": 100_000,
            "eval_every": max(1, steps // 4),
            "patience": NO_PATIENCE,
            "seed": seed,
        }
        self._rows = TaskRows(backbone, task).divided(
            split="honest", seed=seed, limit=None if shots else limit, shots=shots, max_selection=limit
        )
        self._trie = backbone.label_trie(task.spec.label_words)
        self._on_step = on_step
        self.sample = sampled_rows(self._rows.train.token_ids, seed=seed)
        """The rows behind which states are compared."""

    def own(self, *, num_virtual_tokens: int) -> TrainResult:
        """Train a plain prompt from sampled tokens."""
        arguments = self._arguments("simple", num_virtual_tokens)
        (result,) = self._train([(make_method(arguments, self._backbone.weights.embedding), arguments)])
        return result

    def scores(self, prompts: Sequence[Tensor]) -> list[float]:
        """Train without a source and from each prompt, in one stack; return the best scores on the selection rows.

        The first score is that without a source.
        """
        alone = self._arguments("superpos", len(prompts[0]))
        trials: list[tuple[Method, TrainArguments]] = [(make_method(alone, self._backbone.weights.embedding), alone)]
        for prompt in prompts:
            arguments = self._arguments("simple", len(prompt))
            trials.append((Simple(prompt, weight_decay=arguments.weight_decay), arguments))
        return [result.best.score for result in self._train(trials)]

    def _train(self, trials: Sequence[tuple[Method, TrainArguments]]) -> list[TrainResult]:
        task, rows = self._task, self._rows
        jobs = [
            TrainingJob(
                method=method,
                arguments=arguments,
                trie=self._trie,
                rows=rows.train,
                selection=rows.selection,
                label_words=tuple(task.spec.label_words),
                scoring=task.scoring,
            )
            for method, arguments in trials
        ]
        return train_stack(self._backbone, [replace(jobs[0], on_step=self._on_step), *jobs[1:]])

    def _arguments(self, method: MethodName, num_virtual_tokens: int) -> TrainArguments:
        used = used_arguments(self._options, method, "words")
        return train_arguments(used | {"method": method, "num_virtual_tokens": num_virtual_tokens})


def _tensor(prompt: NDArray[np.float32], backbone: Backbone) -> Tensor:
    return torch.from_numpy(prompt.copy()).to(backbone.device)
