"""Similarities of prompts and of the states that they cause, against their formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor

from backbone import Backbone, PackedRow, pack
from training.scoring.transferability import (
    MAX_ROWS,
    mean_similarity,
    sampled_rows,
    task_embedding,
    token_similarity,
    transferability,
)

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = [(13, 14, 15, 1), (17, 18, 1), (20, 1)]


def prompt(seed: int, length: int, width: int = 12) -> Tensor:
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed))


def cosine(first: Tensor, second: Tensor) -> float:
    return float(first @ second / (first.norm() * second.norm()))


def test_prompts_of_any_length_are_compared_by_their_mean_and_by_pairs_of_vectors() -> None:
    source, target = prompt(1, 5), prompt(2, 3)
    assert mean_similarity(source, target) == pytest.approx(cosine(source.mean(0), target.mean(0)), abs=1e-6)
    pairs = [cosine(ours, theirs) for ours in source for theirs in target]
    assert token_similarity(source, target) == pytest.approx(float(np.mean(pairs)), abs=1e-6)
    assert mean_similarity(source, 3 * source) == pytest.approx(1, abs=1e-6)
    assert mean_similarity(torch.zeros(2, 12), target) == 0


def test_a_tasks_embedding_is_the_mean_first_state_behind_its_prompt(tiny: Backbone) -> None:
    given = prompt(3, 4, tiny.width)
    states = []
    for ids in IDS:
        encoded = tiny.encode(pack([PackedRow(range(4), ids)]), given)
        states.append(tiny.states(encoded, "soft")[0])
    np.testing.assert_allclose(task_embedding(tiny, given, IDS), torch.stack(states).mean(0), atol=1e-5)


def test_transferability_is_the_cosine_of_two_embeddings_and_one_for_a_prompt_and_itself(tiny: Backbone) -> None:
    source, target = prompt(1, 5, tiny.width), prompt(2, 3, tiny.width)
    ours, theirs = (torch.from_numpy(task_embedding(tiny, each, IDS)) for each in (source, target))
    assert transferability(tiny, source, target, IDS) == pytest.approx(cosine(ours, theirs), abs=1e-5)
    assert transferability(tiny, source, target, IDS) == transferability(tiny, target, source, IDS)
    assert transferability(tiny, source, source, IDS) == pytest.approx(1, abs=1e-5)


def test_the_rows_of_an_embedding_are_limited_and_drawn_by_the_seed() -> None:
    rows = [(number, 1) for number in range(3 * MAX_ROWS)]
    drawn = sampled_rows(rows, seed=1)
    assert len(drawn) == len({row[0] for row in drawn}) == MAX_ROWS
    assert drawn == sampled_rows(rows, seed=1) != sampled_rows(rows, seed=2)
    assert sorted(sampled_rows(rows[:3], seed=1)) == rows[:3]
