"""Residual, low rank, transfer, mixtures, ATTEMPT and the ablations: each against its formula written out slowly."""

import dataclasses
import math

import pytest
import torch
from support.training import SPEC
from torch import Tensor

from backbone import Backbone
from training.config.arguments import TrainArguments
from training.config.choices import MethodName
from training.errors import InvalidArguments
from training.loop.prompt_run import dropout_seeds
from training.methods import Attempt, Method, sample_token_ids
from training.methods.factory import make_method
from training.scoring.evaluation import predict

pytestmark = pytest.mark.usefixtures("one_thread")

H, P = 24, 4
EVERY: list[tuple[MethodName, int]] = [
    ("superpos", 0),
    ("simple", 0),
    ("residual", 0),
    ("dpt", 0),
    ("spot", 1),
    ("mixture", 2),
]
IDS = [(3, 4, 5, 1), (7, 8, 1)]


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    return torch.randn(300, H, generator=torch.Generator().manual_seed(3)) * 3


def sources(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(P, H, generator=generator) for _ in range(count)]


def make(embedding: Tensor, method: MethodName, *, num_sources: int = 0, **changes: object) -> Method:
    arguments = TrainArguments(
        method=method,
        num_virtual_tokens=P,
        **{"num_sampled_tokens": 20, "sources": ("a", "b")[:num_sources], **changes},
    )
    return make_method(arguments, embedding, sources=sources(num_sources))


def one_step(method: Method) -> None:
    optimizer = torch.optim.AdamW(method.parameter_groups(), lr=0.05)
    prompt = method.prompts(IDS) if isinstance(method, Attempt) else method.prompt()
    (prompt * torch.arange(prompt.numel()).reshape(prompt.shape).cos()).sum().backward()
    optimizer.step()


def doubles(method: Method) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in method.state().items()}


# --- formulas


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


def test_common_tokens_are_among_the_first_of_the_vocabulary() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = sample_token_ids(4_997, vocab_size=32_128, generator=generator, sampling="common")
    assert sorted(ids.tolist()) == list(range(3, 5_000))
    with pytest.raises(InvalidArguments, match="4998 tokens cannot be sampled, the backbone has 4997"):
        sample_token_ids(4_998, vocab_size=32_128, generator=generator, sampling="common")


def test_a_seed_samples_the_same_tokens_whatever_is_trained(embedding: Tensor) -> None:
    of_superpos = make(embedding, "superpos", num_sampled_tokens=P).sampled_token_ids
    assert of_superpos == make(embedding, "simple").sampled_token_ids
    assert of_superpos == make(embedding, "residual").sampled_token_ids


# --- what all of them owe the trainer


@pytest.mark.parametrize(("name", "num_sources"), [*EVERY, ("attempt", 2)])
def test_a_state_taken_over_gives_the_same_prompt_to_the_bit(
    embedding: Tensor, name: MethodName, num_sources: int
) -> None:
    trained = make(embedding, name, num_sources=num_sources, seed=1)
    other = make(embedding, name, num_sources=num_sources, seed=2)
    one_step(trained)
    parameters = [id(each) for group in other.parameter_groups() for each in group["params"]]
    other.load_state({key: tensor.clone() for key, tensor in trained.state().items()})
    assert torch.equal(other.prompt(), trained.prompt())
    assert [id(each) for group in other.parameter_groups() for each in group["params"]] == parameters
    num_trained = sum(each.numel() for group in trained.parameter_groups() for each in group["params"])
    assert sum(tensor.numel() for tensor in trained.state().values()) == num_trained


def test_the_state_of_another_method_is_refused_and_nothing_is_written(embedding: Tensor) -> None:
    method = make(embedding, "residual")
    before = method.prompt().clone()
    with pytest.raises(InvalidArguments, match="the state of a method is"):
        method.load_state(make(embedding, "superpos").state())
    assert torch.equal(method.prompt(), before)


@pytest.mark.parametrize(("name", "num_sources"), EVERY)
def test_a_collapsed_prompt_scores_as_the_method_does_to_the_bit(
    tiny: Backbone, name: MethodName, num_sources: int
) -> None:
    width = tiny.width
    generator = torch.Generator().manual_seed(8)
    given = [torch.randn(P, width, generator=generator) for _ in range(num_sources)]
    arguments = TrainArguments(
        method=name, num_virtual_tokens=P, num_sampled_tokens=20, sources=("a", "b")[:num_sources]
    )
    method = make_method(arguments, tiny.weights.embedding, sources=given)
    one_step(method)
    trie = tiny.label_trie(SPEC.label_words)
    collapsed = torch.from_numpy(method.prompt().detach().numpy().copy())
    again = make_method(arguments, tiny.weights.embedding, sources=given)
    again.load_state(method.state())
    assert (predict(tiny, collapsed, trie, IDS) == predict(tiny, again.prompt(), trie, IDS)).all()


@pytest.mark.parametrize(("name", "num_sources"), [*EVERY, ("attempt", 2)])
def test_a_step_writes_to_the_methods_numbers_alone(tiny: Backbone, name: MethodName, num_sources: int) -> None:
    embedding = tiny.weights.embedding
    before = embedding.clone()
    given = [embedding[10 * i : 10 * i + P] for i in range(1, num_sources + 1)]
    arguments = TrainArguments(
        method=name, num_virtual_tokens=P, num_sampled_tokens=20, sources=("a", "b")[:num_sources]
    )
    one_step(make_method(arguments, embedding, sources=given))
    assert torch.equal(embedding, before)
    assert not embedding.requires_grad


# --- refusals


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "spot"}, "method 'spot' was given 0 source adapters, expected 1"),
        ({"method": "spot", "sources": ("a", "b")}, "method 'spot' was given 2 source adapters, expected 1"),
        ({"method": "mixture"}, "method 'mixture' was given 0 source adapters, expected 1 to 1000"),
        ({"method": "attempt"}, "method 'attempt' was given 0 source adapters, expected 1 to 100"),
        ({"method": "simple", "sources": ("a",)}, "method 'simple' was given 1 source adapters, expected none"),
        ({"rank": 0}, "rank is 0, expected 1 to 100"),
        ({"bottleneck": 0}, "bottleneck is 0, expected 1 to 4096"),
    ],
)
def test_arguments_that_do_not_fit_the_method_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        TrainArguments(**changes)
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["spot", "attempt"])
def test_sources_of_another_length_are_refused(embedding: Tensor, name: MethodName) -> None:
    arguments = TrainArguments(method=name, num_virtual_tokens=P + 1, sources=("a",))
    with pytest.raises(InvalidArguments, match=f"source prompt has {P} virtual tokens, expected {P + 1}"):
        make_method(arguments, embedding, sources=sources(1))


def test_each_rows_draws_have_seeds_of_their_own() -> None:
    drawn = [seed for step in range(20) for seed in dropout_seeds(1, step=step, count=32)]
    assert len(set(drawn)) == 640
    assert dropout_seeds(1, step=3, count=32) == dropout_seeds(1, step=3, count=32)
    assert dataclasses.replace(TrainArguments(), dropout=True).dropout
