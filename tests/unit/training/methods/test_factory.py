"""What every method owes the trainer: a state, a collapsed prompt, refused arguments."""

import dataclasses

import pytest
import torch
from support.adapters import make_adapter
from support.methods import IDS, P, embedding_table, make, one_step, prior_of, sources
from support.training import SPEC
from torch import Tensor

from adapters import PromptAdapter
from adapters.files import from_files, to_files
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.config.choices import MethodName
from training.errors import InvalidArguments
from training.loop.batch import dropout_seeds
from training.methods.factory import make_method
from training.scoring.evaluation import predict

pytestmark = pytest.mark.usefixtures("one_thread")

EVERY: list[tuple[MethodName, int]] = [
    ("superpos", 0),
    ("simple", 0),
    ("residual", 0),
    ("dpt", 0),
    ("spot", 1),
    ("mixture", 2),
    ("mpt", 1),
    ("ipt", 1),
    ("panda", 1),
]


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    return embedding_table(300, seed=3)


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
def test_an_adapter_of_the_collapsed_prompt_scores_as_the_method_does_to_the_bit(
    tiny: Backbone, name: MethodName, num_sources: int
) -> None:
    width = tiny.width
    generator = torch.Generator().manual_seed(8)
    given = [torch.randn(P, width, generator=generator) for _ in range(num_sources)]
    arguments = TrainArguments(
        method=name, num_virtual_tokens=P, num_sampled_tokens=20, sources=("a", "b")[:num_sources]
    )
    prior = prior_of(name, width=width)
    method = make_method(arguments, tiny.weights.embedding, sources=given, prior=prior)
    one_step(method)
    trie = tiny.label_trie(SPEC.label_words)
    known = make_adapter(tiny, SPEC, num_virtual_tokens=P)
    adapter = PromptAdapter(method.prompt().detach().numpy().copy(), known.manifest)
    collapsed = torch.from_numpy(from_files(to_files(adapter)).prompt.copy())
    assert collapsed.shape == (P, width)
    again = make_method(arguments, tiny.weights.embedding, sources=given, prior=prior)
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
    one_step(make_method(arguments, embedding, sources=given, prior=prior_of(name, width=tiny.width)))
    assert torch.equal(embedding, before)
    assert not embedding.requires_grad


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "spot"}, "method 'spot' was given 0 source adapters, expected 1"),
        ({"method": "spot", "sources": ("a", "b")}, "method 'spot' was given 2 source adapters, expected 1"),
        ({"method": "mixture"}, "method 'mixture' was given 0 source adapters, expected 1 to 1000"),
        ({"method": "attempt"}, "method 'attempt' was given 0 source adapters, expected 1 to 100"),
        ({"method": "simple", "sources": ("a",)}, "method 'simple' was given 1 source adapters, expected none"),
        ({"method": "mpt"}, "method 'mpt' was given 0 source adapters, expected 1"),
        (
            {"method": "panda", "sources": ("a", "b", "c")},
            "method 'panda' was given 3 source adapters, expected 1 to 2",
        ),
        (
            {"method": "panda", "sources": ("a",), "readout": "soft"},
            "method 'panda' was given the readout 'soft', expected words",
        ),
        ({"rank": 0}, "rank is 0, expected 1 to 100"),
        ({"bottleneck": 0}, "bottleneck is 0, expected 1 to 4096"),
    ],
)
def test_arguments_that_do_not_fit_the_method_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        TrainArguments(**changes)
    assert str(caught.value) == expected


@pytest.mark.parametrize(("name", "what"), [("mpt", "shared prompt has"), ("ipt", "subspace is of")])
def test_a_prior_of_another_length_is_refused(embedding: Tensor, name: MethodName, what: str) -> None:
    arguments = TrainArguments(method=name, num_virtual_tokens=P + 1, sources=("a",))
    with pytest.raises(InvalidArguments, match=f"{what} {P} virtual tokens, expected {P + 1}"):
        make_method(arguments, embedding, prior=prior_of(name))


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
