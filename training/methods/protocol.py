"""The interface between a method and the trainer: parameters, the prompt they produce, and a state to resume from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from adapters.adapter import MAX_ROW_NORM
from backbone import LabelTrie
from training.errors import InvalidArguments

ParameterGroup = dict[str, Any]
"""A parameter group of `torch.optim`: `params` and `weight_decay`."""


class Method(Protocol):
    """Trainable parameters that collapse to a prompt."""

    @property
    def sampled_token_ids(self) -> tuple[int, ...]:
        """The vocabulary ids whose embeddings it was initialised from."""
        ...

    def prompt(self) -> Tensor:
        """Return the prompt [P, H], differentiable."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters with their weight decay, always in the same order."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return every trained tensor by name: the tensors themselves, detached, not copies."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state into the parameters, which stay the same objects.

        Raises:
            InvalidArguments: the state belongs to another method or has other shapes
        """
        ...


@runtime_checkable
class InputDependent(Method, Protocol):
    """A method whose prompt depends on the input. It can be trained and measured, but not exported."""

    def prompts(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Return the prompt of each row, [B, P, H], differentiable."""
        ...


@runtime_checkable
class OwnModel(Method, Protocol):
    """A method that trains a model instead of a prompt, which is then empty: a baseline that cannot be exported."""

    def scores(self, trie: LabelTrie, token_ids: Sequence[Sequence[int]], *, seed: int | None = None) -> Tensor:
        """Return label log-probabilities, [B, K], differentiable; with a seed, under dropout."""
        ...

    def log_likelihoods(
        self, targets: Sequence[LabelTrie], token_ids: Sequence[Sequence[int]], *, seed: int | None = None
    ) -> Tensor:
        """Return the log-likelihood of every target token, [ΣM_i], differentiable; with a seed, under dropout."""
        ...


def has_no_prompt(method: Method) -> InputDependent | OwnModel | None:
    """Return the method if it does not collapse to a prompt that an adapter could hold, else None."""
    return method if isinstance(method, InputDependent | OwnModel) else None


def is_within_bounds(prompt: Tensor) -> bool:
    """Return whether a prompt [P, H] is valid in an adapter: its vectors are finite and of bounded norm."""
    return bool((prompt.detach().norm(dim=1) <= MAX_ROW_NORM).all())


def check_start(method: Method) -> None:
    """Refuse a method whose untrained prompt is not valid in an adapter, since no evaluation of it could be kept.

    Raises:
        InvalidArguments: a vector is not finite, or its norm exceeds `MAX_ROW_NORM`
    """
    prompt = method.prompt().detach()  # [P, H]
    if not is_within_bounds(prompt):
        norms = prompt.norm(dim=1)  # [P]
        row = int((norms <= MAX_ROW_NORM).int().argmin())
        raise InvalidArguments(
            f"the prompt starts with a vector (row {row}) of norm {norms[row]:.3g}, expected at most {MAX_ROW_NORM:g}; "
            "start from other tokens (--seed) or other sources, or check the backbone's embedding table"
        )


def detached(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Build the `state` of a method from its named parameters."""
    return {name: parameter.detach() for name, parameter in parameters.items()}


def take_over(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Implement `load_state` for named parameters; everything is checked before anything is written.

    Raises:
        InvalidArguments: the names or shapes differ from the parameters'
    """
    expected = {name: list(parameter.shape) for name, parameter in parameters.items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    if found != expected:
        raise InvalidArguments(f"the state of a method is {found}, expected {expected}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
