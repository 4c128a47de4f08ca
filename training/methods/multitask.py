"""Multitask prompt tuning, MPT (Wang et al. 2023, §3): a shared prompt, multiplied by a matrix of rank one per task.

P_k = P* ∘ (u_k ⊗ v_k), with P* [P, H] for all tasks, u_k [P] and v_k [H] for task k; ∘ multiplies element by element.
Source training learns P* over many tasks (`training.source_prompts.shared`). Adaptation to a new task starts at P* and
at the mean of the source tasks' vectors (§4.1), and trains all three with two learning rates.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.errors import InvalidArguments
from training.methods.prior import Prior
from training.methods.protocol import ParameterGroup, detached, take_over


class Multitask:
    """P = P* ∘ (u ⊗ v), started from a shared prompt."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(
        self,
        prior: Prior,
        *,
        num_virtual_tokens: int,
        factor_lr: float,
        weight_decay: float,
        device: torch.device,
    ) -> None:
        """Start at the shared prompt and at the mean task vectors of the prior.

        Args:
            factor_lr: learning rate of u and v; the run's own rate trains P*

        Raises:
            InvalidArguments: the shared prompt does not have `num_virtual_tokens` vectors
        """
        shared = prior.tensors["shared"]
        if len(shared) != num_virtual_tokens:
            raise InvalidArguments(f"the shared prompt has {len(shared)} virtual tokens, expected {num_virtual_tokens}")
        self._parameters = {name: nn.Parameter(prior.tensors[name].clone().to(device)) for name in _NAMES}
        self._factor_lr, self._weight_decay = factor_lr, weight_decay

    def prompt(self) -> Tensor:
        return hadamard(*(self._parameters[name] for name in _NAMES))

    def parameter_groups(self) -> list[ParameterGroup]:
        own = self._parameters
        return [
            {"params": [own["shared"]], "weight_decay": self._weight_decay},
            {"params": [own["column"], own["row"]], "lr": self._factor_lr, "weight_decay": self._weight_decay},
        ]

    def state(self) -> dict[str, Tensor]:
        """`shared`: P* [P, H]; `column`: u [P]; `row`: v [H]."""
        return detached(self._parameters)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._parameters, state)


_NAMES = ("shared", "column", "row")


def hadamard(shared: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Return P* ∘ (u ⊗ v), [P, H]."""
    return shared * torch.outer(column, row)


class SharedPrompt:
    """The parameters of source training: P*, and a pair of vectors per source task."""

    def __init__(self, start: Tensor, *, num_tasks: int, weight_decay: float) -> None:
        """Start P* at a given prompt [P, H] and every vector at ones, so that all tasks begin with P*.

        The paper does not state how the vectors start.
        """
        length, width = start.shape
        self._shared = nn.Parameter(start.float().clone())
        self._columns = nn.Parameter(torch.ones(num_tasks, length, device=start.device))  # [K, P]
        self._rows = nn.Parameter(torch.ones(num_tasks, width, device=start.device))  # [K, H]
        self._weight_decay = weight_decay

    def prompt(self, task: int) -> Tensor:
        """Return P_k, [P, H]."""
        return hadamard(self._shared, self._columns[task], self._rows[task])

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._shared, self._columns, self._rows], "weight_decay": self._weight_decay}]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a prior: P*, and the mean vectors over the tasks."""
        return {
            "shared": self._shared.detach().clone(),
            "column": self._columns.detach().mean(0),
            "row": self._rows.detach().mean(0),
        }
