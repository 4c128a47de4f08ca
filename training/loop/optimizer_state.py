"""A method's parameters and its optimiser's state as named tensors, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Every parameter (`parameter.0` …) and what the optimiser keeps of it (`state.0.exp_avg` …), on the CPU."""
    tensors = {f"parameter.{i}": parameter for i, parameter in enumerate(_parameters(optimizer))}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"state.{i}.{name}": value for name, value in state.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put everything back, to the last digit; what else `tensors` holds is left alone.

    Raises:
        KeyError: a parameter is not there
    """
    with torch.no_grad():
        for i, parameter in enumerate(_parameters(optimizer)):
            parameter.copy_(tensors[f"parameter.{i}"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "state":
            number, _, name = rest.partition(".")
            states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
