"""Prompt-tuning methods on a small embedding table, and one training step of each."""

import torch
from torch import Tensor

from training.config.arguments import TrainArguments
from training.config.choices import MethodName
from training.methods import Attempt, Method
from training.methods.factory import make_method
from training.methods.prior import PRIORS, Prior

H, P = 24, 4
IDS = [(3, 4, 5, 1), (7, 8, 1)]


def embedding_table(size: int, *, seed: int) -> Tensor:
    """Return a random token-embedding table [size, H]."""
    return torch.randn(size, H, generator=torch.Generator().manual_seed(seed)) * 3


def sources(count: int) -> list[Tensor]:
    """Return source prompts, each [P, H]."""
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(P, H, generator=generator) for _ in range(count)]


def prior_of(method: MethodName, *, width: int = H) -> Prior | None:
    """Return a random prior for a method that starts from one, else None."""
    if (kind := PRIORS.get(method)) is None:
        return None
    generator = torch.Generator().manual_seed(5)
    shapes = {
        "shared": {"shared": (P, width), "column": (P,), "row": (width,)},
        "subspace": {"inner": (7, 3), "inner_bias": (7,), "outer": (P, width, 7), "outer_bias": (P, width)},
    }[kind]
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return Prior(kind, tensors, "sha256:none", ())


def make(embedding: Tensor, method: MethodName, *, num_sources: int = 0, **changes: object) -> Method:
    """Make a method of P tokens, with source prompts if it needs them."""
    arguments = TrainArguments(
        method=method,
        num_virtual_tokens=P,
        **{"num_sampled_tokens": 20, "sources": ("a", "b")[:num_sources], **changes},
    )
    return make_method(arguments, embedding, sources=sources(num_sources), prior=prior_of(method))


def one_step(method: Method) -> None:
    """Take an AdamW step on a loss that pulls every number of the prompt its own way."""
    optimizer = torch.optim.AdamW(method.parameter_groups(), lr=0.05)
    prompt = method.prompts(IDS) if isinstance(method, Attempt) else method.prompt()
    (prompt * torch.arange(prompt.numel()).reshape(prompt.shape).cos()).sum().backward()
    optimizer.step()
