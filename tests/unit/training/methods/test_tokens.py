"""The sampled tokens: distinct, ordinary, and the same for a seed."""

import pytest
import torch
from support.methods import H, P, embedding_table, make
from torch import Tensor

from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.methods import (
    FIRST_SAMPLED_ID,
    NUM_ORDINARY_IDS,
    MethodName,
    sample_token_ids,
)
from training.methods.factory import make_method


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    """A token-embedding table [400, H]."""
    return embedding_table(400, seed=11)


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


@pytest.mark.usefixtures("one_thread")
def test_common_tokens_are_among_the_first_of_the_vocabulary() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = sample_token_ids(4_997, vocab_size=32_128, generator=generator, sampling="common")
    assert sorted(ids.tolist()) == list(range(3, 5_000))
    with pytest.raises(InvalidArguments, match="cannot sample 4998 tokens, the backbone has 4997"):
        sample_token_ids(4_998, vocab_size=32_128, generator=generator, sampling="common")


@pytest.mark.usefixtures("one_thread")
def test_a_seed_samples_the_same_tokens_whatever_is_trained(embedding: Tensor) -> None:
    of_superpos = make(embedding, "superpos", num_sampled_tokens=P).sampled_token_ids
    assert of_superpos == make(embedding, "simple").sampled_token_ids
    assert of_superpos == make(embedding, "residual").sampled_token_ids
