"""Sampling of the vocabulary ids that a prompt starts from: one sample per seed, the same for every task."""

import torch
from torch import Tensor

from training.config.arguments import MAX_SAMPLED_TOKENS
from training.config.choices import TokenSampling
from training.errors import InvalidArguments

FIRST_SAMPLED_ID = 3
"""The ids below it are padding, end-of-sequence and unknown."""
NUM_ORDINARY_IDS = FIRST_SAMPLED_ID + MAX_SAMPLED_TOKENS
"""The end of T5's sentencepiece vocabulary, followed by sentinels and padding rows of the table."""
NUM_COMMON_IDS = 5_000
"""Sentencepiece orders its pieces by frequency, so the first ones are the most common."""

_LAST: dict[TokenSampling, int] = {"vocabulary": NUM_ORDINARY_IDS, "common": NUM_COMMON_IDS}


def sample_token_ids(
    count: int, *, vocab_size: int, generator: torch.Generator, sampling: TokenSampling = "vocabulary"
) -> Tensor:
    """Sample distinct ids of ordinary vocabulary pieces, [count] int64.

    Raises:
        InvalidArguments: the vocabulary has fewer pieces than `count`
    """
    last = min(_LAST[sampling], vocab_size)
    if count > last - FIRST_SAMPLED_ID:
        raise InvalidArguments(f"cannot sample {count} tokens, the backbone has {last - FIRST_SAMPLED_ID} ({sampling})")
    return torch.randperm(last - FIRST_SAMPLED_ID, generator=generator)[:count] + FIRST_SAMPLED_ID
