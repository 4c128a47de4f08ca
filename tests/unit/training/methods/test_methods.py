"""Prompt-tuning methods: what they start from, what trains, and what they collapse to."""

import pytest
import torch
from torch import Tensor

from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.methods import (
    FIRST_SAMPLED_ID,
    NUM_ORDINARY_IDS,
    Basis,
    Method,
    MethodName,
    Simple,
    SuperPos,
    sample_token_ids,
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


def simple(embedding: Tensor, *, seed: int = 0) -> Simple:
    return Simple.of_tokens(
        embedding, num_virtual_tokens=P, weight_decay=0.01, generator=torch.Generator().manual_seed(seed)
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


# --- SuperPos


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


# --- Simple


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


# --- both


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


# --- sampled ids


@pytest.mark.parametrize("vocab_size", [100, 32_000, 32_128, 250_000])
def test_sampled_ids_are_distinct_ordinary_pieces(vocab_size: int) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        ids = sample_token_ids(64, vocab_size=vocab_size, generator=generator).tolist()
        assert len(set(ids)) == len(ids) == 64
        assert all(3 <= i < min(32_000, vocab_size) for i in ids)


def test_every_ordinary_id_and_no_other_can_be_sampled() -> None:
    assert (FIRST_SAMPLED_ID, NUM_ORDINARY_IDS) == (3, 32_000)
    for vocab_size, last in ((20, 19), (32_128, 31_999)):
        ids = sample_token_ids(last - 2, vocab_size=vocab_size, generator=torch.Generator().manual_seed(0))
        assert sorted(ids.tolist()) == list(range(3, last + 1))


@pytest.mark.parametrize("method", ["superpos", "simple"])
def test_more_sampled_tokens_than_the_vocabulary_has_are_refused(method: MethodName) -> None:
    small = torch.randn(20, H)
    with pytest.raises(InvalidArguments) as caught:
        make_method(TrainArguments(method=method, num_virtual_tokens=18, num_sampled_tokens=18), small)
    assert "18" in str(caught.value)
    assert "17" in str(caught.value)
