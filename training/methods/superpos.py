"""SuperPos-Prompt (Sadraei et al. 2024, §2): each prompt vector is a superposition of m given vectors.

p_i = E p′_i, without softmax, bias or non-linearity. E and p′ are trained together, with weight decay on p′ only. The
softmax of §A.2, p_i = E softmax(p′_i), is an ablation. The columns of E are sampled token embeddings (the paper), or
the vectors of other tasks' trained prompts, which superposes adapters (the paper's future work).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config.choices import Basis, TokenSampling, WeightsInit
from training.methods.protocol import ParameterGroup, detached, take_over
from training.methods.tokens import sample_token_ids


class SuperPos:
    """P = E·p′. `per_token`: a copy of E for each prompt vector; `shared`: one E for all."""

    def __init__(
        self,
        columns: Tensor,  # [m, H], the initial E
        *,
        num_virtual_tokens: int,
        basis: Basis,
        weight_decay: float,
        generator: torch.Generator,
        softmax: bool = False,
        weights_init: WeightsInit = "normal",
        sampled_token_ids: tuple[int, ...] = (),
    ) -> None:
        """Start from given columns; `sampled_token_ids` are the tokens whose embeddings they are."""
        self.sampled_token_ids = sampled_token_ids
        columns = columns.float().clone()
        weights = initial_weights(num_virtual_tokens, len(columns), init=weights_init, generator=generator)
        # E is [P, m, H] per token, [m, H] shared; p′ is [P, m]
        self._basis = nn.Parameter(columns.repeat(num_virtual_tokens, 1, 1) if basis == "per_token" else columns)
        self._weights = nn.Parameter(weights.to(columns.device))
        self._softmax, self._weight_decay = softmax, weight_decay

    def prompt(self) -> Tensor:
        weights = torch.softmax(self._weights, dim=-1) if self._softmax else self._weights  # [P, m]
        if self._basis.dim() == 2:
            return weights @ self._basis  # [P, m] · [m, H]
        return torch.einsum("pm,pmh->ph", weights, self._basis)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            {"params": [self._weights], "weight_decay": self._weight_decay},
            {"params": [self._basis], "weight_decay": 0.0},
        ]

    def state(self) -> dict[str, Tensor]:
        """`weights`: p′ [P, m]; `basis`: E, [P, m, H] or [m, H]."""
        return detached(self._parameters())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._parameters(), state)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {"weights": self._weights, "basis": self._basis}


def sampled_columns(
    embedding: Tensor,  # [V, H], the backbone's, frozen
    num_sampled_tokens: int,
    *,
    generator: torch.Generator,
    sampling: TokenSampling = "vocabulary",
) -> tuple[tuple[int, ...], Tensor]:
    """Sample m token ids and return them with their embeddings [m, H], the paper's columns of E.

    Raises:
        InvalidArguments: the vocabulary is too small
    """
    ids = sample_token_ids(num_sampled_tokens, vocab_size=embedding.shape[0], generator=generator, sampling=sampling)
    return tuple(ids.tolist()), embedding[ids]


def initial_weights(
    num_virtual_tokens: int, num_columns: int, *, init: WeightsInit, generator: torch.Generator
) -> Tensor:
    """Draw the initial p′ [P, m].

    `normal` and `uniform` have variance 1/m, which preserves the norm of a token embedding; the paper does not specify
    the initialisation. `zeros` starts from a zero prompt, or from the mean of the columns under a softmax.
    """
    shape = (num_virtual_tokens, num_columns)
    if init == "zeros":
        return torch.zeros(shape)
    if init == "uniform":
        return torch.empty(shape).uniform_(-((3 / num_columns) ** 0.5), (3 / num_columns) ** 0.5, generator=generator)
    return torch.randn(shape, generator=generator).div(num_columns**0.5)
