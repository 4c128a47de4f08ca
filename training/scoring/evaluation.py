"""Evaluation of a prompt on tokenised rows with the scorer used in serving, so that its metrics hold there too."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.calibration import Calibration
from adapters.task import TaskSpec
from backbone import Backbone, LabelTrie, PackedRow, Readout, TextTooLong, TokenizedText, divide, pack
from training.data.examples import Example
from training.errors import InvalidData
from training.methods import InputDependent, OwnModel
from training.scoring.bootstrap import Interval, decision_intervals, intervals
from training.scoring.decisions import Labels, decide, indicators
from training.scoring.metrics import Metrics, measure, selecting_metrics
from training.task.scoring import ACCURACY, Scoring

MAX_BATCH_TOKENS = 2_048


@dataclass(frozen=True, slots=True)
class TokenizedRows:
    """Tokenised examples with their labels and groups."""

    token_ids: tuple[tuple[int, ...], ...]  # n × [T_i]
    labels: Labels
    num_truncated: int
    groups: tuple[str, ...] | None = None
    """The group of each row (`Example.group`); None if the task has no groups."""

    @classmethod
    def of(cls, examples: Sequence[Example], texts: Sequence[TokenizedText], *, spec: TaskSpec) -> "TokenizedRows":
        """Combine the examples of a task with their tokenised texts."""
        return cls(
            token_ids=tuple(text.token_ids for text in texts),
            labels=label_array(examples, spec),
            num_truncated=sum(text.truncated for text in texts),
            groups=_groups(examples),
        )

    def __len__(self) -> int:
        return len(self.token_ids)

    def at(self, indices: Sequence[int] | NDArray[np.int64]) -> "TokenizedRows":
        """Return some of the rows, in the order of the indices; how many of them are truncated is not known."""
        groups = None if self.groups is None else tuple(self.groups[index] for index in indices)
        token_ids = tuple(self.token_ids[index] for index in indices)
        return TokenizedRows(token_ids, self.labels[np.asarray(indices, dtype=np.int64)], 0, groups)

    def joined(self, others: "TokenizedRows") -> "TokenizedRows":
        """Return these rows, followed by others of the same task."""
        return TokenizedRows(
            (*self.token_ids, *others.token_ids),
            np.concatenate([self.labels, others.labels]),
            self.num_truncated + others.num_truncated,
            None if self.groups is None or others.groups is None else (*self.groups, *others.groups),
        )

    def label_counts(self) -> list[int]:
        """Return the number of rows of each label that occurs; in a multi-label task, of each label."""
        counts = self.labels.sum(axis=0) if self.is_multi_label else np.unique(self.labels, return_counts=True)[1]
        return [int(count) for count in counts]

    @property
    def mean_tokens(self) -> float:
        """The mean number of tokens per row."""
        return sum(map(len, self.token_ids)) / len(self.token_ids)

    def digest(self) -> str:
        """Return a SHA-256 that identifies the rows."""
        hashed = hashlib.sha256(repr(self.groups).encode())
        hashed.update(self.labels.tobytes())
        if self.is_multi_label:
            hashed.update(repr(self.labels.shape).encode())
        for ids in self.token_ids:
            hashed.update(np.array([len(ids), *ids], dtype=np.int64).tobytes())
        return hashed.hexdigest()

    @property
    def is_multi_label(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.labels.ndim == 2

    def measured(
        self, log_probs: NDArray[np.float32], scoring: Scoring, calibration: Calibration | None = None
    ) -> Metrics:
        """Compute the metrics of label log-probabilities [n, K] for these rows.

        Args:
            calibration: what decides the labels of multi-label rows; None for thresholds of 0.5
        """
        return measure(log_probs, self.labels, scoring=scoring, groups=self.groups, calibration=calibration)

    def selected_by(self, log_probs: NDArray[np.float32], scoring: Scoring) -> Metrics:
        """Compute the metrics that choose the best epoch (`selecting_metrics`)."""
        return selecting_metrics(log_probs, self.labels, scoring=scoring, groups=self.groups)

    def intervals(
        self, log_probs: NDArray[np.float32], scoring: Scoring, calibration: Calibration | None = None
    ) -> dict[str, Interval]:
        """Compute the confidence intervals of the metrics, by name; arguments as `measured`."""
        if self.is_multi_label:
            decisions = decide(log_probs, multi_label=True, calibration=calibration)
            return decision_intervals(log_probs, decisions, self.labels, scoring=scoring, groups=self.groups)
        return intervals(
            log_probs.argmax(axis=1),
            self.labels,
            num_labels=log_probs.shape[1],
            scoring=scoring,
            groups=self.groups,
        )


def tokenize_examples(backbone: Backbone, spec: TaskSpec, examples: Sequence[Example]) -> TokenizedRows:
    """Tokenise rows; texts beyond the limit are truncated on the task's side and counted."""
    return TokenizedRows.of(examples, example_texts(backbone, spec, examples), spec=spec)


def label_array(examples: Sequence[Example], spec: TaskSpec) -> Labels:
    """Return the labels of rows: [n], or [n, K] of 0 and 1 in a multi-label task."""
    if spec.is_multi_label:
        return indicators([example.labels for example in examples], len(spec.labels))
    return np.array([example.label for example in examples], dtype=np.int64)


def example_texts(backbone: Backbone, spec: TaskSpec, examples: Sequence[Example]) -> list[TokenizedText]:
    """Tokenise the texts of rows as the task specifies and as a server does.

    Raises:
        InvalidData: truncation would leave too little of a field
    """
    template = spec.parsed_template
    frame = backbone.tokenizer.frame(template.literals, template.placeholders)
    texts = [frame.fill(template.values(example.fields)) for example in examples]
    try:
        return backbone.tokenizer.tokenize(texts, max_tokens=spec.max_tokens, truncation=spec.truncation_side)
    except TextTooLong as exc:
        fault = str(exc).removeprefix(f"inputs[{exc.index}] ")
        raise InvalidData(f"the row {examples[exc.index].text[:60]!r} {fault}") from exc


def _groups(examples: Sequence[Example]) -> tuple[str, ...] | None:
    groups = tuple(example.group for example in examples if example.group is not None)
    return groups if groups and len(groups) == len(examples) else None


Scored = Tensor | InputDependent | OwnModel
"""A prompt [P, H], or a method that does not collapse to one."""


def label_scores(backbone: Backbone, scored: Scored, readout: Readout, token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Return label log-probabilities [B, K] of a packed batch, differentiable in the prompt [P, H]."""
    if isinstance(scored, OwnModel):
        assert isinstance(readout, LabelTrie), "fine-tuned models generate label words"
        return scored.scores(readout, token_ids)
    if isinstance(scored, InputDependent):
        table = scored.prompts(token_ids)  # [B, P, H]
        size = table.shape[1]
        rows = [PackedRow(range(i * size, (i + 1) * size), ids) for i, ids in enumerate(token_ids)]
        encoded = backbone.encode(pack(rows, device=backbone.device), table.flatten(0, 1))
    else:
        rows = [PackedRow(range(scored.shape[0]), ids) for ids in token_ids]
        encoded = backbone.encode(pack(rows, device=backbone.device), scored)
    return backbone.score(encoded, [readout] * len(rows))


def predict(
    backbone: Backbone, scored: Scored, readout: Readout, token_ids: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Return label log-probabilities of any number of rows, [n, K]."""
    with torch.inference_mode():
        prompt = scored if isinstance(scored, Tensor) else scored.prompt()
        batches = token_batches(token_ids, prompt.shape[0])
        scores = [label_scores(backbone, scored, readout, batch).cpu() for batch in batches]
    return torch.cat(scores).numpy()


def evaluate(
    backbone: Backbone, scored: Scored, readout: Readout, rows: TokenizedRows, *, scoring: Scoring = ACCURACY
) -> Metrics:
    """Compute the metrics of a prompt on rows."""
    return rows.measured(predict(backbone, scored, readout, rows.token_ids), scoring)


def token_batches(token_ids: Sequence[Sequence[int]], prompt_length: int) -> list[list[Sequence[int]]]:
    """Divide rows, in order, into batches of at most `MAX_BATCH_TOKENS` including prompts, or of one longer row."""
    return divide(token_ids, lambda ids: prompt_length + len(ids), at_most=MAX_BATCH_TOKENS)
