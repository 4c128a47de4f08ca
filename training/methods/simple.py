"""Simple prompt tuning (Lester et al. 2021), and SPoT (Vu et al. 2022), which starts from another task's prompt."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config.choices import TokenSampling
from training.errors import InvalidArguments
from training.methods.protocol import ParameterGroup, detached, take_over
from training.methods.tokens import sample_token_ids


class Simple:
    """A prompt that is trained directly."""

    def __init__(
        self,
        start: Tensor,  # [P, H]
        *,
        weight_decay: float,
        sampled_token_ids: tuple[int, ...] = (),
    ) -> None:
        """Start from a given prompt; `sampled_token_ids` are the tokens whose embeddings it consists of."""
        self.sampled_token_ids = sampled_token_ids
        self._prompt = nn.Parameter(start.float().clone())
        self._weight_decay = weight_decay

    @classmethod
    def of_tokens(
        cls,
        embedding: Tensor,  # [V, H], the backbone's, frozen
        *,
        num_virtual_tokens: int,
        weight_decay: float,
        generator: torch.Generator,
        sampling: TokenSampling = "vocabulary",
    ) -> "Simple":
        """Start from sampled token embeddings; raises as `sample_token_ids`."""
        ids = sample_token_ids(
            num_virtual_tokens, vocab_size=embedding.shape[0], generator=generator, sampling=sampling
        )
        return cls(embedding[ids], weight_decay=weight_decay, sampled_token_ids=tuple(ids.tolist()))

    def prompt(self) -> Tensor:
        return self._prompt

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._prompt], "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """`prompt`: [P, H]."""
        return detached({"prompt": self._prompt})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over({"prompt": self._prompt}, state)


def transfer(source: Tensor, *, num_virtual_tokens: int, weight_decay: float) -> Simple:
    """Start simple prompt tuning from a source prompt [P, H], as SPoT does.

    Raises:
        InvalidArguments: the source does not have `num_virtual_tokens` vectors
    """
    if len(source) != num_virtual_tokens:
        raise InvalidArguments(f"the source prompt has {len(source)} virtual tokens, expected {num_virtual_tokens}")
    return Simple(source, weight_decay=weight_decay)
