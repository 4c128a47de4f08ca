"""Prompt-tuning methods: small reparameterisations that collapse to a plain prompt [P, H].

SuperPos-Prompt (Sadraei et al. 2024, §2): each prompt vector is a superposition of m token embeddings,
p_i = E p'_i, without softmax, bias or non-linearity; E and p' are tuned together, weight decay on p' alone.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from training.errors import InvalidArguments

Basis = Literal["per_token", "shared"]
MethodName = Literal["superpos", "simple"]

FIRST_SAMPLED_ID = 3
"""Ids below are padding, end-of-sequence and unknown."""
NUM_ORDINARY_IDS = 32_000
"""T5's sentencepiece vocabulary; past it stand sentinels and rows that only pad the table."""


ParameterGroup = dict[str, Any]
"""What `torch.optim` calls a parameter group: `params` and `weight_decay`."""


class Method(Protocol):
    """Trainable parameters that collapse to a prompt."""

    sampled_token_ids: tuple[int, ...]

    def prompt(self) -> Tensor:
        """The prompt [P, H], differentiable."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters with their weight decay."""
        ...


class SuperPos:
    """P = E·p′. `per_token`: a copy of E for each prompt vector; `shared`: one E for all."""

    def __init__(
        self,
        embedding: Tensor,  # [V, H], the backbone's, frozen
        *,
        num_virtual_tokens: int,
        num_sampled_tokens: int,
        basis: Basis,
        weight_decay: float,
        generator: torch.Generator,
    ) -> None:
        ids = sample_token_ids(num_sampled_tokens, vocab_size=embedding.shape[0], generator=generator)
        self.sampled_token_ids = tuple(ids.tolist())
        sampled = embedding[ids].clone()  # [m, H]
        if basis == "per_token":
            sampled = sampled.repeat(num_virtual_tokens, 1, 1)  # [P, m, H]
        self._basis = nn.Parameter(sampled)
        # p′ ~ N(0, 1/m) keeps the norm of a token embedding
        weights = torch.randn(num_virtual_tokens, num_sampled_tokens, generator=generator)
        self._weights = nn.Parameter(weights / num_sampled_tokens**0.5)  # [P, m]
        self._weight_decay = weight_decay

    def prompt(self) -> Tensor:
        if self._basis.dim() == 2:
            return self._weights @ self._basis  # [P, m] · [m, H]
        return torch.einsum("pm,pmh->ph", self._weights, self._basis)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            {"params": [self._weights], "weight_decay": self._weight_decay},
            {"params": [self._basis], "weight_decay": 0.0},
        ]


class Simple:
    """Prompt tuning as in Lester et al. 2021: the prompt itself, started from sampled token embeddings."""

    def __init__(
        self, embedding: Tensor, *, num_virtual_tokens: int, weight_decay: float, generator: torch.Generator
    ) -> None:
        ids = sample_token_ids(num_virtual_tokens, vocab_size=embedding.shape[0], generator=generator)
        self.sampled_token_ids = tuple(ids.tolist())
        self._prompt = nn.Parameter(embedding[ids].clone())  # [P, H]
        self._weight_decay = weight_decay

    def prompt(self) -> Tensor:
        return self._prompt

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._prompt], "weight_decay": self._weight_decay}]


def sample_token_ids(count: int, *, vocab_size: int, generator: torch.Generator) -> Tensor:
    """`count` distinct ids of ordinary vocabulary pieces, [count] int64.

    Raises:
        InvalidArguments: the vocabulary has not so many
    """
    last = min(NUM_ORDINARY_IDS, vocab_size)
    if count > last - FIRST_SAMPLED_ID:
        raise InvalidArguments(f"{count} tokens cannot be sampled, the backbone has {last - FIRST_SAMPLED_ID}")
    return torch.randperm(last - FIRST_SAMPLED_ID, generator=generator)[:count] + FIRST_SAMPLED_ID
