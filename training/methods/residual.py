"""Residual prompt tuning (Razdaibiedina et al. 2023, §3): the prompt plus a small network's transformation of it.

p̂ = LayerNorm(W_up · ReLU(W_down · p + b_down) + b_up) + p, with one network for all prompt vectors. After
training, only the resulting prompt is kept.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config.choices import TokenSampling
from training.methods.protocol import ParameterGroup, detached, take_over
from training.methods.tokens import sample_token_ids


class Residual:
    """A prompt behind a bottleneck with a skip connection."""

    def __init__(
        self,
        embedding: Tensor,  # [V, H], the backbone's, frozen
        *,
        num_virtual_tokens: int,
        bottleneck: int,
        weight_decay: float,
        generator: torch.Generator,
        sampling: TokenSampling = "vocabulary",
    ) -> None:
        """Start the prompt at sampled token embeddings and the network as `torch.nn.Linear` does.

        Raises:
            InvalidArguments: the vocabulary is too small
        """
        ids = sample_token_ids(
            num_virtual_tokens, vocab_size=embedding.shape[0], generator=generator, sampling=sampling
        )
        self.sampled_token_ids = tuple(ids.tolist())
        width, device = embedding.shape[1], embedding.device
        self._weight_decay = weight_decay
        self._parameters = {
            "prompt": nn.Parameter(embedding[ids].float().clone()),  # [P, H]
            "down": nn.Parameter(linear_start(bottleneck, width, generator=generator).to(device)),
            "down_bias": nn.Parameter(linear_start(bottleneck, width, generator=generator)[:, 0].clone().to(device)),
            "up": nn.Parameter(linear_start(width, bottleneck, generator=generator).to(device)),
            "up_bias": nn.Parameter(linear_start(width, bottleneck, generator=generator)[:, 0].clone().to(device)),
            "norm": nn.Parameter(torch.ones(width, device=device)),
            "norm_bias": nn.Parameter(torch.zeros(width, device=device)),
        }

    def prompt(self) -> Tensor:
        own = self._parameters
        inner = F.relu(F.linear(own["prompt"], own["down"], own["down_bias"]))  # [P, bottleneck]
        outer = F.linear(inner, own["up"], own["up_bias"])  # [P, H]
        return F.layer_norm(outer, outer.shape[-1:], own["norm"], own["norm_bias"]) + own["prompt"]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": list(self._parameters.values()), "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """Return `prompt` [P, H], the input of the network, and the tensors of the network."""
        return detached(self._parameters)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._parameters, state)


def linear_start(num_out: int, num_in: int, *, generator: torch.Generator) -> Tensor:
    """Draw a weight [out, in] as `torch.nn.Linear` does, from U(−1/√in, 1/√in); a column of it can serve as a bias."""
    return torch.empty(num_out, num_in).uniform_(-(num_in**-0.5), num_in**-0.5, generator=generator)
