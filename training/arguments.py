"""What a training run is made of: its arguments, and the method that they name."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import InvalidArguments
from training.methods import NUM_ORDINARY_IDS, Basis, Method, MethodName, Simple, SuperPos

DEFAULT_LR: dict[MethodName, float] = {"superpos": 0.01, "simple": 0.3}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """What a run is made of. Defaults are the paper's but for the epochs and, for `simple`, Lester et al.'s rate.

    Raises:
        InvalidArguments: a value outside its range
    """

    method: MethodName = "superpos"
    basis: Basis = "per_token"
    num_virtual_tokens: int = 10
    num_sampled_tokens: int = 128
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.01
    weight_decay: float = 1e-5
    seed: int = 0
    clip: float | None = None
    """The largest norm of a step's gradient, over all of the method's parameters; longer ones are scaled down."""
    max_steps: int | None = None
    """Steps after which training ends, where the epochs have more."""
    eval_every: int | None = None
    """Steps from one evaluation to the next; left out: at each epoch's end."""
    patience: int | None = None
    """Evaluations without a better one after which training ends."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_virtual_tokens", 1, 100),
            ("num_sampled_tokens", 1, NUM_ORDINARY_IDS - 3),
            ("epochs", 1, 100_000),
            ("batch_size", 1, 4_096),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidArguments(f"{name} is {getattr(self, name)}, expected {low} to {high}")
        for name in ("max_steps", "eval_every", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidArguments(f"{name} is {value}, expected at least 1")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise InvalidArguments(f"clip is {self.clip}, expected a number above 0")
        if not 0 < self.lr <= 100:
            raise InvalidArguments(f"lr is {self.lr}, expected above 0 and at most 100")
        if not 0 <= self.weight_decay <= 1:
            raise InvalidArguments(f"weight_decay is {self.weight_decay}, expected 0 to 1")


def make_method(arguments: TrainArguments, embedding: Tensor) -> Method:
    """The method that the arguments name, started from its seed."""
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.method == "simple":
        return Simple(
            embedding,
            num_virtual_tokens=arguments.num_virtual_tokens,
            weight_decay=arguments.weight_decay,
            generator=generator,
        )
    return SuperPos(
        embedding,
        num_virtual_tokens=arguments.num_virtual_tokens,
        num_sampled_tokens=arguments.num_sampled_tokens,
        basis=arguments.basis,
        weight_decay=arguments.weight_decay,
        generator=generator,
    )
