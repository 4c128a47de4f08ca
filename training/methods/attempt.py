"""ATTEMPT (Asai et al. 2022, §3): each input mixes frozen source prompts by attention, so there is no single prompt.

P(x) = P_target + Σ_j a_j(x)·P_j over the sources and the target; a(x) = softmax over j of p̂_j · G(x̂) / T, where x̂ and
p̂_j are the maxima over the input's embeddings and over a prompt's vectors, G(x̂) = LayerNorm(W_up · SiLU(W_down · x̂)),
and T is e·H as in its authors' code.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config.choices import TokenSampling
from training.errors import InvalidArguments
from training.methods.protocol import ParameterGroup, detached, take_over
from training.methods.residual import linear_start
from training.methods.tokens import sample_token_ids


class Attempt:
    """A target prompt, and a small network that computes the weight of each source for an input."""

    def __init__(
        self,
        embedding: Tensor,  # [V, H], the backbone's, frozen
        sources: Sequence[Tensor],  # S × [P, H], frozen
        *,
        num_virtual_tokens: int,
        bottleneck: int,
        weight_decay: float,
        generator: torch.Generator,
        sampling: TokenSampling = "vocabulary",
    ) -> None:
        """Start the target at sampled token embeddings and the network as `torch.nn.Linear` does.

        Raises:
            InvalidArguments: a source has another number of vectors, or the vocabulary is too small
        """
        for source in sources:
            if len(source) != num_virtual_tokens:
                raise InvalidArguments(
                    f"a source prompt has {len(source)} virtual tokens, expected {num_virtual_tokens}"
                )
        ids = sample_token_ids(
            num_virtual_tokens, vocab_size=embedding.shape[0], generator=generator, sampling=sampling
        )
        self.sampled_token_ids = tuple(ids.tolist())
        self._embedding, self._sources = embedding, torch.stack(list(sources)).float()  # [S, P, H]
        width, device = embedding.shape[1], embedding.device
        self._temperature = math.e * width
        self._weight_decay = weight_decay
        self._parameters = {
            "prompt": nn.Parameter(embedding[ids].float().clone()),  # [P, H]
            "down": nn.Parameter(linear_start(bottleneck, width, generator=generator).to(device)),
            "up": nn.Parameter(linear_start(width, bottleneck, generator=generator).to(device)),
            "norm": nn.Parameter(torch.ones(width, device=device)),
            "norm_bias": nn.Parameter(torch.zeros(width, device=device)),
        }

    def prompt(self) -> Tensor:
        """Return the target [P, H], the part of the prompt that does not depend on the input."""
        return self._parameters["prompt"]

    def prompts(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Return the prompt of each row, [B, P, H]."""
        own = self._parameters
        prompts = torch.cat([self._sources, own["prompt"][None]])  # [S + 1, P, H]
        return own["prompt"] + torch.einsum("bs,sph->bph", self.attention(token_ids), prompts)

    def attention(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Return the weights of the sources and, last, of the target for each row, [B, S + 1]; they sum to 1."""
        own = self._parameters
        rows = [torch.tensor(ids, device=self._embedding.device) for ids in token_ids]
        pooled = torch.stack([self._embedding[ids].float().amax(0) for ids in rows])  # [B, H]
        hidden = F.linear(F.silu(F.linear(pooled, own["down"])), own["up"])
        query = F.layer_norm(hidden, hidden.shape[-1:], own["norm"], own["norm_bias"])
        keys = torch.cat([self._sources, own["prompt"][None]]).amax(1)  # [S + 1, H]
        return torch.softmax(query @ keys.T / self._temperature, dim=-1)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": list(self._parameters.values()), "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """Return `prompt` [P, H], the target, and the tensors of the network; the sources are not trained."""
        return detached(self._parameters)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._parameters, state)
