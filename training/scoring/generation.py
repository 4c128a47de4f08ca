"""Free greedy generation with string comparison, the paper's protocol. Used in evaluation only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.task import TaskSpec
from backbone import Backbone, Encoded, PackedRow, pack
from training.config.choices import InvalidPolicy
from training.scoring.confusion import INVALID
from training.scoring.evaluation import token_batches
from training.scoring.metrics import Metrics


def greedy(backbone: Backbone, encoded: Encoded, num_rows: int, *, max_new_tokens: int) -> list[tuple[int, ...]]:
    """Generate the most likely tokens of every row up to end-of-sequence, which is omitted.

    Each step decodes all tokens so far again, since label words have only a few tokens.
    """
    eos = backbone.architecture.eos_id
    words: list[list[int]] = [[] for _ in range(num_rows)]
    ended = [False] * num_rows
    for _ in range(max_new_tokens):
        if all(ended):
            break
        chosen = backbone.next_token_logits(encoded, words).argmax(dim=-1).tolist()  # [B]
        for row, token in enumerate(chosen):
            ended[row] = ended[row] or token == eos
            if not ended[row]:
                words[row].append(token)
    return [tuple(row) for row in words]


def generated_answers(
    backbone: Backbone,
    prompt: Tensor,  # [P, H]
    spec: TaskSpec,
    token_ids: Sequence[Sequence[int]],
) -> NDArray[np.int64]:
    """Return the label whose words each row generates exactly, or INVALID, [n]."""
    longest = max(len(pieces) for pieces in backbone.tokenizer.pieces(spec.label_words))
    by_words = {words.strip(): label for label, words in enumerate(spec.label_words)}
    answers: list[int] = []
    with torch.inference_mode():
        for batch in token_batches(token_ids, prompt.shape[0]):
            rows = [PackedRow(range(prompt.shape[0]), ids) for ids in batch]
            encoded = backbone.encode(pack(rows, device=backbone.device), prompt)
            generated = greedy(backbone, encoded, len(rows), max_new_tokens=longest + 1)
            answers += [by_words.get(backbone.tokenizer.text(words).strip(), INVALID) for words in generated]
    return np.array(answers, dtype=np.int64)


def under_policy(metrics: Metrics, answers: NDArray[np.int64], policy: InvalidPolicy) -> Metrics:
    """Apply the policy for invalid answers: they count as wrong, or make the whole run score 0 (the paper's †)."""
    if policy == "wrong" or not (answers == INVALID).any():
        return metrics
    return replace(metrics, values=dict.fromkeys(metrics.values, 0.0), score=0.0)
