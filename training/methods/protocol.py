"""What a method is to the trainer: parameters, the prompt that they make, and a state that a run resumes from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from backbone import LabelTrie
from training.errors import InvalidArguments

ParameterGroup = dict[str, Any]
"""What `torch.optim` calls a parameter group: `params` and `weight_decay`."""


class Method(Protocol):
    """Trainable parameters that collapse to a prompt."""

    @property
    def sampled_token_ids(self) -> tuple[int, ...]:
        """The vocabulary ids whose embeddings it started from."""
        ...

    def prompt(self) -> Tensor:
        """The prompt [P, H], differentiable."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters with their weight decay, in an order that never changes."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Every trained tensor by its name: the tensors themselves, detached, not copies."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the numbers of a state; the parameters stay the same objects.

        Raises:
            InvalidArguments: the state of another method, or of other sizes
        """
        ...


@runtime_checkable
class InputDependent(Method, Protocol):
    """A method whose prompt is another for every input: it trains and is measured, and cannot be exported."""

    def prompts(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Each row's prompt, [B, P, H], differentiable."""
        ...


@runtime_checkable
class OwnModel(Method, Protocol):
    """A method that trains a model instead of a prompt, which has no rows then: a baseline, not to be exported."""

    def scores(self, trie: LabelTrie, token_ids: Sequence[Sequence[int]], *, seed: int | None = None) -> Tensor:
        """[B, K] label log-probabilities, differentiable; with a seed, under dropout."""
        ...

    def log_likelihoods(
        self, targets: Sequence[LabelTrie], token_ids: Sequence[Sequence[int]], *, seed: int | None = None
    ) -> Tensor:
        """[ΣM_i] of every token of the targets (`Backbone.target`), differentiable; with a seed, under dropout."""
        ...


def has_no_prompt(method: Method) -> InputDependent | OwnModel | None:
    """The method if its prompt is not all there is to it, so that no adapter can hold it."""
    return method if isinstance(method, InputDependent | OwnModel) else None


def detached(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What a method's `state` is, made of its parameters by name."""
    return {name: parameter.detach() for name, parameter in parameters.items()}


def take_over(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """What a method's `load_state` does; nothing is written before everything is checked.

    Raises:
        InvalidArguments: other names or shapes than the parameters'
    """
    expected = {name: list(parameter.shape) for name, parameter in parameters.items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    if found != expected:
        raise InvalidArguments(f"the state of a method is {found}, expected {expected}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
