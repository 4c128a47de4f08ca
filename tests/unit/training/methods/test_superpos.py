"""Superposition of sampled token embeddings: its start, its parameters and its collapse to a prompt."""

import pytest
import torch
from torch import Tensor

from training.config.arguments import TrainArguments
from training.methods import (
    Basis,
    Method,
    SuperPos,
    sampled_columns,
)
from training.methods.factory import make_method

V, H, P, M = 400, 24, 6, 50


BASES: tuple[Basis, ...] = ("per_token", "shared")


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    """A token-embedding table [V, H]."""
    return torch.randn(V, H, generator=torch.Generator().manual_seed(11)) * 3


def superpos(embedding: Tensor, basis: Basis = "per_token", *, seed: int = 0, weight_decay: float = 0.01) -> SuperPos:
    generator = torch.Generator().manual_seed(seed)
    ids, columns = sampled_columns(embedding, M, generator=generator)
    return SuperPos(
        columns,
        num_virtual_tokens=P,
        basis=basis,
        weight_decay=weight_decay,
        generator=generator,
        sampled_token_ids=ids,
    )


def weights_and_basis(method: SuperPos) -> tuple[Tensor, Tensor]:
    """p′ [P, m] and E, as the optimiser gets them."""
    (weights,), (basis,) = (group["params"] for group in method.parameter_groups())
    return weights, basis


def one_step(method: Method, *, lr: float = 0.05) -> None:
    """One AdamW step on a loss that pulls every number of the prompt its own way."""
    optimizer = torch.optim.AdamW(method.parameter_groups(), lr=lr)
    prompt = method.prompt()
    (prompt * torch.arange(prompt.numel()).reshape(prompt.shape)).sum().backward()
    optimizer.step()


def test_a_basis_for_each_token_collapses_to_each_tokens_own_product(embedding: Tensor) -> None:
    method = superpos(embedding, "per_token")
    one_step(method)
    weights, basis = weights_and_basis(method)
    assert (weights.shape, basis.shape) == ((P, M), (P, M, H))
    expected = torch.stack([weights[i].double() @ basis[i].double() for i in range(P)])
    torch.testing.assert_close(method.prompt().double(), expected, rtol=1e-5, atol=1e-4)


def test_a_shared_basis_collapses_to_one_product(embedding: Tensor) -> None:
    method = superpos(embedding, "shared")
    one_step(method)
    weights, basis = weights_and_basis(method)
    assert (weights.shape, basis.shape) == ((P, M), (M, H))
    torch.testing.assert_close(method.prompt().double(), weights.double() @ basis.double(), rtol=1e-5, atol=1e-4)


def test_both_bases_start_from_the_same_prompt(embedding: Tensor) -> None:
    each, shared = (superpos(embedding, basis) for basis in BASES)
    assert each.sampled_token_ids == shared.sampled_token_ids
    torch.testing.assert_close(each.prompt(), shared.prompt(), rtol=1e-5, atol=1e-5)


def test_the_bases_part_once_they_train(embedding: Tensor) -> None:
    each, shared = (superpos(embedding, basis) for basis in BASES)
    one_step(each)
    one_step(shared)
    assert not torch.allclose(each.prompt(), shared.prompt(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("basis", BASES)
def test_the_basis_starts_as_the_sampled_token_embeddings(embedding: Tensor, basis: Basis) -> None:
    method = superpos(embedding, basis)
    expected = embedding[list(method.sampled_token_ids)]
    _, started = weights_and_basis(method)
    assert len(method.sampled_token_ids) == M
    assert torch.equal(started, expected if basis == "shared" else expected.expand(P, M, H))


@pytest.mark.parametrize("basis", BASES)
def test_weight_decay_falls_on_the_weights_and_never_on_the_basis(embedding: Tensor, basis: Basis) -> None:
    method = superpos(embedding, basis, weight_decay=0.25)
    decays = {id(p): group["weight_decay"] for group in method.parameter_groups() for p in group["params"]}
    weights, started = weights_and_basis(method)
    assert decays == {id(weights): 0.25, id(started): 0.0}
    before = weights.detach().clone(), started.detach().clone()
    for parameter in (weights, started):
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(method.parameter_groups(), lr=0.1).step()
    torch.testing.assert_close(weights.detach(), before[0] * (1 - 0.1 * 0.25))
    assert torch.equal(started, before[1])


@pytest.mark.parametrize("basis", BASES)
def test_weights_and_basis_both_get_gradients(embedding: Tensor, basis: Basis) -> None:
    method = superpos(embedding, basis)
    method.prompt().square().sum().backward()
    for parameter in weights_and_basis(method):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_superposition_starts_in_the_scale_of_a_token_embedding() -> None:
    # as in T5: rows of one scale, no common direction
    table = torch.randn(5_000, 64, generator=torch.Generator().manual_seed(1)) * 7
    typical = table.norm(dim=1).mean()
    norms = torch.stack(
        [
            make_method(TrainArguments(num_virtual_tokens=20, num_sampled_tokens=m, basis="shared", seed=seed), table)
            .prompt()
            .norm(dim=1)
            .mean()
            for m in (1, 16, 128, 1_000)
            for seed in range(20)
        ]
    ).reshape(4, 20)
    # m = 1 has E|z| = 0.80 of the norm, larger m approach 1; without the 1/m it would be √m times as much
    assert ((norms.mean(dim=1) / typical > 0.7) & (norms.mean(dim=1) / typical < 1.1)).all()
