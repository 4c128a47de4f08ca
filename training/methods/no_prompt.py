"""No prompt: a learned readout on the frozen model's states, fitted instead of trained (`training.readouts.head`)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.methods.protocol import ParameterGroup, take_over


class NoPrompt:
    """A prompt of zero vectors, which has no parameters."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(self, width: int, *, device: torch.device) -> None:
        self._prompt = torch.zeros(0, width, device=device)

    def prompt(self) -> Tensor:
        return self._prompt

    def parameter_groups(self) -> list[ParameterGroup]:
        return []

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over({}, state)
