"""Decomposed prompt tuning, DPT (Xiao et al. 2023): a prompt of low rank, P = A·B."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.methods.protocol import ParameterGroup, detached, take_over


class LowRank:
    """P = A·B with A [P, r] and B [r, H], both trained; fewer parameters than the prompt for a small r."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(
        self,
        embedding: Tensor,  # [V, H], the backbone's; its scale sets the scale of the prompt
        *,
        num_virtual_tokens: int,
        rank: int,
        weight_decay: float,
        generator: torch.Generator,
    ) -> None:
        """Initialise both from normal distributions whose product has the variance of the embedding table."""
        width, device = embedding.shape[1], embedding.device
        scale = float(embedding.float().std())
        left = torch.randn(num_virtual_tokens, rank, generator=generator) / rank**0.5
        right = torch.randn(rank, width, generator=generator) * scale
        self._left, self._right = nn.Parameter(left.to(device)), nn.Parameter(right.to(device))
        self._weight_decay = weight_decay

    def prompt(self) -> Tensor:
        return self._left @ self._right

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._left, self._right], "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """`left`: A [P, r]; `right`: B [r, H]."""
        return detached(self._parameters())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._parameters(), state)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {"left": self._left, "right": self._right}
