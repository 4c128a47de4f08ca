"""Prompt-tuning methods: what they start from, what trains, and what they collapse to."""

import pytest
import torch
from torch import Tensor

from training.config.arguments import TrainArguments
from training.methods import (
    Basis,
    Method,
    MethodName,
    Simple,
)
from training.methods.factory import make_method

V, H, P, M = 400, 24, 6, 50


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    """A token-embedding table [V, H]."""
    return torch.randn(V, H, generator=torch.Generator().manual_seed(11)) * 3


def simple(embedding: Tensor, *, seed: int = 0) -> Simple:
    return Simple.of_tokens(
        embedding, num_virtual_tokens=P, weight_decay=0.01, generator=torch.Generator().manual_seed(seed)
    )


def one_step(method: Method, *, lr: float = 0.05) -> None:
    """One AdamW step on a loss that pulls every number of the prompt its own way."""
    optimizer = torch.optim.AdamW(method.parameter_groups(), lr=lr)
    prompt = method.prompt()
    (prompt * torch.arange(prompt.numel()).reshape(prompt.shape)).sum().backward()
    optimizer.step()


def test_simple_starts_at_the_sampled_embeddings(embedding: Tensor) -> None:
    method = simple(embedding)
    assert torch.equal(method.prompt(), embedding[list(method.sampled_token_ids)])
    assert len(set(method.sampled_token_ids)) == P


def test_simple_trains_the_prompt_itself(embedding: Tensor) -> None:
    method = simple(embedding)
    (group,) = method.parameter_groups()
    assert group["weight_decay"] == 0.01
    assert [parameter.shape for parameter in group["params"]] == [(P, H)]
    before = method.prompt().detach().clone()
    one_step(method)
    assert not torch.allclose(method.prompt(), before)


def arguments(method: MethodName, basis: Basis, seed: int = 0) -> TrainArguments:
    return TrainArguments(method=method, basis=basis, num_virtual_tokens=P, num_sampled_tokens=M, seed=seed)


ALL: list[tuple[MethodName, Basis]] = [("superpos", "per_token"), ("superpos", "shared"), ("simple", "per_token")]


@pytest.mark.parametrize(("method", "basis"), ALL)
def test_every_method_collapses_to_a_plain_differentiable_prompt(
    embedding: Tensor, method: MethodName, basis: Basis
) -> None:
    prompt = make_method(arguments(method, basis), embedding).prompt()
    assert prompt.shape == (P, H)
    assert prompt.dtype == torch.float32
    assert prompt.requires_grad


@pytest.mark.parametrize(("method", "basis"), ALL)
def test_a_seed_reproduces_its_start_and_another_does_not(embedding: Tensor, method: MethodName, basis: Basis) -> None:
    first, again, other = (make_method(arguments(method, basis, seed), embedding) for seed in (7, 7, 8))
    assert first.sampled_token_ids == again.sampled_token_ids != other.sampled_token_ids
    assert torch.equal(first.prompt(), again.prompt())
    assert not torch.equal(first.prompt(), other.prompt())


@pytest.mark.parametrize(("method", "basis"), ALL)
def test_training_a_method_leaves_the_embedding_table_alone(
    embedding: Tensor, method: MethodName, basis: Basis
) -> None:
    before = embedding.clone()
    one_step(make_method(arguments(method, basis), embedding), lr=1.0)
    assert torch.equal(embedding, before)
    assert not embedding.requires_grad


def test_the_arguments_reach_the_method(embedding: Tensor) -> None:
    method = make_method(
        TrainArguments(num_virtual_tokens=3, num_sampled_tokens=9, basis="shared", weight_decay=0.5), embedding
    )
    (weights, basis) = (group["params"][0] for group in method.parameter_groups())
    assert (weights.shape, basis.shape) == ((3, 9), (9, H))
    assert method.parameter_groups()[0]["weight_decay"] == 0.5
