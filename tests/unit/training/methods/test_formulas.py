"""Residual, low rank, transfer, mixture, MPT, IPT and ATTEMPT, each against its formula written out."""

import math

import pytest
import torch
from support.methods import IDS, H, P, embedding_table, make, one_step, prior_of, sources
from torch import Tensor

from training.methods import Attempt, Method
from training.methods.intrinsic import Autoencoder
from training.methods.multitask import SharedPrompt

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    return embedding_table(300, seed=3)


def doubles(method: Method) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in method.state().items()}


def test_residual_is_layer_norm_of_the_bottleneck_plus_the_prompt(embedding: Tensor) -> None:
    method = make(embedding, "residual", bottleneck=7)
    one_step(method)
    own = doubles(method)
    for i in range(P):
        p = own["prompt"][i]
        inner = torch.clamp(own["down"] @ p + own["down_bias"], min=0)
        outer = own["up"] @ inner + own["up_bias"]
        centred = outer - outer.mean()
        expected = own["norm"] * centred / (centred.square().mean() + 1e-5).sqrt() + own["norm_bias"] + p
        torch.testing.assert_close(method.prompt()[i].double(), expected, rtol=1e-4, atol=1e-4)


def test_low_rank_is_a_product_of_that_rank_in_the_tables_scale(embedding: Tensor) -> None:
    method = make(embedding, "dpt", rank=2)
    own = doubles(method)
    torch.testing.assert_close(method.prompt().double(), own["left"] @ own["right"], rtol=1e-5, atol=1e-5)
    assert torch.linalg.matrix_rank(method.prompt().detach()) == 2
    many = [make(embedding, "dpt", rank=2, seed=seed).prompt().detach().std() / embedding.std() for seed in range(40)]
    assert float(torch.stack(many).mean()) == pytest.approx(1, abs=0.25)


def test_a_softmax_makes_each_vector_an_expected_column(embedding: Tensor) -> None:
    for basis in ("shared", "per_token"):
        method = make(embedding, "superpos", softmax=True, basis=basis)
        one_step(method)
        own = doubles(method)
        for i in range(P):
            weights = own["weights"][i].exp() / own["weights"][i].exp().sum()
            columns = own["basis"] if basis == "shared" else own["basis"][i]
            expected = sum(weight * column for weight, column in zip(weights, columns, strict=True))
            torch.testing.assert_close(method.prompt()[i].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_transfer_starts_as_its_source_and_parts_from_it(embedding: Tensor) -> None:
    (source,) = sources(1)
    method = make(embedding, "spot", num_sources=1)
    assert torch.equal(method.prompt(), source)
    one_step(method)
    assert not torch.allclose(method.prompt(), source)
    assert torch.equal(source, sources(1)[0])


def test_a_mixture_superposes_every_vector_of_every_source(embedding: Tensor) -> None:
    method = make(embedding, "mixture", num_sources=2, basis="shared")
    assert torch.equal(method.state()["basis"], torch.cat(sources(2)))
    assert method.state()["weights"].shape == (P, 2 * P)
    assert method.sampled_token_ids == ()
    one_step(method)
    own = doubles(method)
    for i in range(P):
        expected = sum(own["weights"][i, j] * own["basis"][j] for j in range(2 * P))
        torch.testing.assert_close(method.prompt()[i].double(), expected, rtol=1e-4, atol=1e-4)


def test_mpt_multiplies_the_shared_prompt_by_a_matrix_of_rank_one(embedding: Tensor) -> None:
    method = make(embedding, "mpt", num_sources=1)
    one_step(method)
    own = doubles(method)
    for i in range(P):
        for j in range(H):
            expected = own["shared"][i, j] * own["column"][i] * own["row"][j]
            assert float(method.prompt()[i, j].detach()) == pytest.approx(float(expected), abs=1e-5)
    task_matrix = method.prompt().detach().double() / own["shared"]
    assert torch.linalg.matrix_rank(task_matrix, rtol=1e-5) == 1


def test_mpt_trains_the_shared_prompt_and_the_tasks_vectors_at_two_rates(embedding: Tensor) -> None:
    shared, vectors = make(embedding, "mpt", num_sources=1, factor_lr=0.4).parameter_groups()
    assert "lr" not in shared
    assert [parameter.shape for parameter in shared["params"]] == [(P, H)]
    assert vectors["lr"] == 0.4
    assert [parameter.shape for parameter in vectors["params"]] == [(P,), (H,)]


def test_mpts_source_tasks_share_a_prompt_and_leave_their_mean_vectors(embedding: Tensor) -> None:
    model = SharedPrompt(embedding[:P], num_tasks=3, weight_decay=0.0)
    assert torch.equal(model.prompt(1), embedding[:P])
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=0.1)
    (model.prompt(0) * torch.arange(P * H).reshape(P, H).cos()).sum().backward()
    optimizer.step()
    assert not torch.equal(model.prompt(0), model.prompt(1))
    left = model.tensors()
    (group,) = model.parameter_groups()
    shared, columns, rows = (parameter.detach() for parameter in group["params"])
    torch.testing.assert_close(left["shared"], shared)
    torch.testing.assert_close(left["column"], (columns[0] + columns[1] + columns[2]) / 3)
    torch.testing.assert_close(left["row"], (rows[0] + rows[1] + rows[2]) / 3)


def test_ipt_decodes_a_point_and_trains_nothing_else(embedding: Tensor) -> None:
    method = make(embedding, "ipt", num_sources=1)
    one_step(method)
    (group,) = method.parameter_groups()
    (point,) = group["params"]
    prior = prior_of("ipt")
    assert prior is not None
    inner, inner_bias, outer, outer_bias = (
        prior.tensors[name].double() for name in ("inner", "inner_bias", "outer", "outer_bias")
    )
    hidden = [torch.tanh(inner[k] @ point.detach().double() + inner_bias[k]) for k in range(len(inner))]
    for i in range(P):
        expected = outer_bias[i] + sum(value * outer[i, :, k] for k, value in enumerate(hidden))
        torch.testing.assert_close(method.prompt()[i].double(), expected, rtol=1e-4, atol=1e-4)


def test_ipts_autoencoder_is_two_layers_down_and_up_and_its_decoder_is_the_subspace() -> None:
    prompts = [13.5 * prompt for prompt in sources(4)]
    model = Autoencoder(prompts, dimensions=3, hidden=7, weight_decay=0.0, generator=torch.Generator().manual_seed(1))
    (group,) = model.parameter_groups()
    w1, b1, w2, b2, w3, b3 = (parameter.detach().double() for parameter in group["params"])
    scale = float(torch.stack(prompts).std())
    point = w1 @ prompts[2].flatten().double() / scale + b1
    expected = (w3 @ torch.tanh(w2 @ point + b2) + b3).reshape(P, H)
    torch.testing.assert_close(model.prompt(2).double(), expected * scale, rtol=1e-4, atol=1e-4)
    error = (expected - prompts[2].double() / scale).square().mean()
    assert float(model.penalty([2]).detach()) == pytest.approx(float(error), rel=1e-4)
    left = model.tensors()
    again = left["outer"].double() @ torch.tanh(w2 @ point + b2) + left["outer_bias"].double()
    torch.testing.assert_close(again, expected * scale, rtol=1e-4, atol=1e-4)


def test_attempt_mixes_sources_and_target_by_each_inputs_attention(embedding: Tensor) -> None:
    method = make(embedding, "attempt", num_sources=2, bottleneck=5)
    assert isinstance(method, Attempt)
    one_step(method)
    own = doubles(method)
    prompts = [*(source.double() for source in sources(2)), own["prompt"]]
    for row, ids in enumerate(IDS):
        pooled = embedding.double()[list(ids)].max(0).values
        down = own["down"] @ pooled
        up = own["up"] @ (down * torch.sigmoid(down))
        centred = up - up.mean()
        query = own["norm"] * centred / (centred.square().mean() + 1e-5).sqrt() + own["norm_bias"]
        scores = torch.stack([query @ prompt.max(0).values for prompt in prompts]) / (math.e * H)
        taken = scores.exp() / scores.exp().sum()
        expected = own["prompt"] + sum(weight * prompt for weight, prompt in zip(taken, prompts, strict=True))
        torch.testing.assert_close(method.prompts(IDS)[row].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("init", ["normal", "uniform"])
def test_weights_start_with_a_variance_of_one_over_m(embedding: Tensor, init: str) -> None:
    drawn = [make(embedding, "superpos", weights_init=init, seed=seed).state()["weights"] for seed in range(50)]
    assert float(torch.stack(drawn).var()) == pytest.approx(1 / 20, rel=0.1)


def test_weights_of_zero_start_with_an_empty_prompt_that_learns(embedding: Tensor) -> None:
    method = make(embedding, "superpos", weights_init="zeros")
    assert torch.equal(method.prompt(), torch.zeros(P, H))
    one_step(method)
    assert method.prompt().abs().max() > 0
