"""PyTorch's random numbers, which dropout draws: where they stand, as named tensors, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

_CPU, _CUDA = "random.cpu", "random.cuda"


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The state of the generators that a forward pass on `device` may draw from."""
    cuda = {_CUDA: torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {_CPU: torch.get_rng_state(), **cuda}


def load_random_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put them back; what else `tensors` holds is left alone."""
    torch.set_rng_state(tensors[_CPU])
    if device.type == "cuda" and _CUDA in tensors:
        torch.cuda.set_rng_state(tensors[_CUDA], device)
