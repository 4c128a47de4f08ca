"""Intrinsic prompt tuning, IPT (Qin et al. 2021, §3): a prompt in a subspace of few dimensions that many tasks share.

Multi-task subspace finding trains an autoencoder over the prompts of many tasks: the encoder projects a whole prompt,
all its vectors in one row, to d numbers, v = W₁·p + b₁; the decoder projects them back, P = W₃·tanh(W₂·v + b₂) + b₃
(`training.source_prompts.subspace`). Intrinsic subspace tuning trains v for a new task behind the frozen decoder.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.errors import InvalidArguments
from training.methods.prior import Prior
from training.methods.protocol import ParameterGroup, detached, take_over
from training.methods.residual import linear_start

START_STD = 0.02
"""The standard deviation of the initial v, as in the authors' code."""


class Intrinsic:
    """P = W₃·tanh(W₂·v + b₂) + b₃, of which only v [d] is trained."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(
        self,
        prior: Prior,
        *,
        num_virtual_tokens: int,
        weight_decay: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        """Draw v from a normal distribution.

        Raises:
            InvalidArguments: the subspace is of prompts of another length
        """
        self._decoder = {name: tensor.to(device) for name, tensor in prior.tensors.items()}
        if (length := len(self._decoder["outer"])) != num_virtual_tokens:
            raise InvalidArguments(f"the subspace is of {length} virtual tokens, expected {num_virtual_tokens}")
        dimensions = self._decoder["inner"].shape[1]
        start = torch.randn(dimensions, generator=generator) * START_STD
        self._point = nn.Parameter(start.to(device))
        self._weight_decay = weight_decay

    def prompt(self) -> Tensor:
        return decoded(self._point, **self._decoder)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._point], "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """`point`: v [d]."""
        return detached({"point": self._point})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over({"point": self._point}, state)


def decoded(
    point: Tensor,  # [d]
    *,
    inner: Tensor,  # [m, d]
    inner_bias: Tensor,  # [m]
    outer: Tensor,  # [P, H, m]
    outer_bias: Tensor,  # [P, H]
) -> Tensor:
    """Return the prompt of a point in the subspace, [P, H]."""
    return outer @ torch.tanh(inner @ point + inner_bias) + outer_bias


class Autoencoder:
    """The autoencoder of multi-task subspace finding, and the prompts that it is trained on.

    Prompts are divided by their common standard deviation, so that the reconstruction loss and the learning rate do not
    depend on the scale of the backbone's embeddings.
    """

    def __init__(
        self,
        prompts: Sequence[Tensor],  # N × [P, H]
        *,
        dimensions: int,
        hidden: int,
        weight_decay: float,
        generator: torch.Generator,
    ) -> None:
        """Start all layers as `torch.nn.Linear` does.

        Args:
            dimensions: d
            hidden: m, the width of the decoder's inner layer
        """
        self._prompts = torch.stack(list(prompts)).float()  # [N, P, H]
        self._scale = self._prompts.std()
        _, self._length, self._width = self._prompts.shape
        size, device = self._length * self._width, self._prompts.device

        def layer(num_out: int, num_in: int) -> tuple[nn.Parameter, nn.Parameter]:
            drawn = [linear_start(num_out, num_in, generator=generator) for _ in range(2)]
            return nn.Parameter(drawn[0].to(device)), nn.Parameter(drawn[1][:, 0].clone().to(device))

        self._encoder, self._encoder_bias = layer(dimensions, size)
        self._inner, self._inner_bias = layer(hidden, dimensions)
        self._outer, self._outer_bias = layer(size, hidden)
        self._weight_decay = weight_decay

    def prompt(self, task: int) -> Tensor:
        """Return the reconstruction of a source prompt, [P, H]."""
        return self._reconstructed(task) * self._scale

    def penalty(self, tasks: Sequence[int]) -> Tensor:
        """Return the mean squared error of the reconstruction of some prompts, in units of their variance."""
        errors = [F.mse_loss(self._reconstructed(task), self._prompts[task] / self._scale) for task in tasks]
        return torch.stack(errors).mean()

    def parameter_groups(self) -> list[ParameterGroup]:
        parameters = [self._encoder, self._encoder_bias, self._inner, self._inner_bias, self._outer, self._outer_bias]
        return [{"params": parameters, "weight_decay": self._weight_decay}]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a prior: the decoder, which also scales back."""
        with torch.no_grad():
            outer = (self._outer * self._scale).view(self._length, self._width, -1)
            bias = (self._outer_bias * self._scale).view(self._length, self._width)
        return {
            "inner": self._inner.detach().clone(),
            "inner_bias": self._inner_bias.detach().clone(),
            "outer": outer.clone(),
            "outer_bias": bias.clone(),
        }

    def _reconstructed(self, task: int) -> Tensor:
        """Return the reconstruction of a source prompt in units of the standard deviation, [P, H]."""
        row = self._prompts[task].flatten() / self._scale
        point = F.linear(row, self._encoder, self._encoder_bias)  # [d]
        inner = torch.tanh(F.linear(point, self._inner, self._inner_bias))
        return F.linear(inner, self._outer, self._outer_bias).view(self._length, self._width)
