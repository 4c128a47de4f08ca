"""Which vocabulary ids a prompt starts from: one sample a seed, the same for every task."""

import torch
from torch import Tensor

from training.config.arguments import MAX_SAMPLED_TOKENS
from training.config.choices import TokenSampling
from training.errors import InvalidArguments

FIRST_SAMPLED_ID = 3
"""Ids below are padding, end-of-sequence and unknown."""
NUM_ORDINARY_IDS = FIRST_SAMPLED_ID + MAX_SAMPLED_TOKENS
"""T5's sentencepiece vocabulary; past it stand sentinels and rows that only pad the table."""
NUM_COMMON_IDS = 5_000
"""Sentencepiece orders its pieces by how likely they are: the first are the common ones."""

_LAST: dict[TokenSampling, int] = {"vocabulary": NUM_ORDINARY_IDS, "common": NUM_COMMON_IDS}


def sample_token_ids(
    count: int, *, vocab_size: int, generator: torch.Generator, sampling: TokenSampling = "vocabulary"
) -> Tensor:
    """`count` distinct ids of ordinary vocabulary pieces, [count] int64.

    Raises:
        InvalidArguments: there are not so many to sample from
    """
    last = min(_LAST[sampling], vocab_size)
    if count > last - FIRST_SAMPLED_ID:
        raise InvalidArguments(
            f"{count} tokens cannot be sampled, the backbone has {last - FIRST_SAMPLED_ID} ({sampling})"
        )
    return torch.randperm(last - FIRST_SAMPLED_ID, generator=generator)[:count] + FIRST_SAMPLED_ID
