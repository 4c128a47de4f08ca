"""Rows that tests run through a backbone."""

import torch
from torch import Tensor

from backbone import Backbone, PackedRow
from support import make_adapter

LABEL_SETS = [
    ["negative", "positive"],
    ["world", "world news", "world science", "sports"],
    ["0.0", "0.2", "0.4", "1", "1 2"],
    ["yes", "no", "yes or no"],
]


TEXTS = [
    "a gripping film",
    "flat and overlong " * 7,
    "which city is the capital of France ?",
    "x",
    "the quick brown fox jumps over the lazy dog",
]


def mixed_rows(backbone: Backbone) -> tuple[list[PackedRow], Tensor, list[list[str]]]:
    """Rows of different texts, prompts of different lengths, label sets of different depth."""
    lengths = [10, 1, 20, 100, 3]
    prompts = [
        torch.from_numpy(make_adapter(backbone, seed=seed, num_virtual_tokens=length).prompt.copy())
        for seed, length in enumerate(lengths)
    ]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    texts = backbone.tokenizer.tokenize(TEXTS, max_tokens=512, truncation="error")
    rows = [
        PackedRow(range(start, start + length), text.token_ids)
        for start, length, text in zip(starts, lengths, texts, strict=True)
    ]
    return rows, torch.cat(prompts), [LABEL_SETS[i % len(LABEL_SETS)] for i in range(len(rows))]
