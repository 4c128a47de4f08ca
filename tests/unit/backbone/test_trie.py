"""The label trie: what it keeps, what it leaves out, and what it refuses."""

import pytest
import torch

from backbone import Backbone, InvalidLabels, PackedRow, pack
from backbone.scoring import label_log_probs
from backbone.trie import build_trie


def build(*labels: list[int]) -> object:
    return build_trie(labels, start_id=0, eos_id=1)


def test_labels_that_differ_in_their_first_token_need_one_step() -> None:
    trie = build_trie([[5, 6, 7], [8], [9, 6]], start_id=0, eos_id=1)
    assert trie.needs_one_step
    assert trie.node_tokens == (0,)
    assert trie.edge_tokens == (5, 8, 9)
    assert trie.path_labels == (0, 1, 2)


def test_a_shared_prefix_costs_only_the_nodes_above_a_choice() -> None:
    trie = build_trie([[5, 6, 7, 8], [5, 6, 9, 10], [11]], start_id=0, eos_id=1)
    assert trie.node_tokens == (0, 5, 6)
    assert trie.node_parents == (-1, 0, 1)
    assert trie.node_depths == (0, 1, 2)
    assert sorted(trie.edge_tokens) == [5, 7, 9, 11]


def test_a_label_that_is_anothers_prefix_ends_by_a_choice_too() -> None:
    trie = build_trie([[5], [5, 6]], start_id=0, eos_id=1)
    assert trie.node_tokens == (0, 5)
    assert sorted(trie.edge_tokens) == [1, 6]


def test_scores_are_sums_of_softmaxes_along_each_path() -> None:
    trie = build_trie([[2, 3], [2, 4], [5]], start_id=0, eos_id=1)
    generator = torch.Generator().manual_seed(0)
    nodes, head = torch.randn(trie.num_nodes, 8, generator=generator), torch.randn(6, 8, generator=generator)
    scores = label_log_probs(nodes, head, [trie])[0]
    first = torch.log_softmax(nodes[0] @ head[[2, 5]].T, 0)
    second = torch.log_softmax(nodes[1] @ head[[3, 4]].T, 0)
    assert torch.allclose(scores, torch.stack([first[0] + second[0], first[0] + second[1], first[1]]), atol=1e-6)
    assert scores.exp().sum() == pytest.approx(1, abs=1e-6)


def test_a_label_alone_has_the_log_probability_that_it_has_among_all_from_fewer_nodes(tiny: Backbone) -> None:
    trie = tiny.label_trie(["world", "world news", "world science", "business", "sports news"])
    rows = [PackedRow((0, 1), (7, 8, 9, 1))] * trie.num_labels
    prompts = tiny.weights.embedding[[20, 30]].clone().requires_grad_()
    alone = [trie.of_label(label) for label in range(trie.num_labels)]
    encoded = tiny.encode(pack(rows), prompts)
    each = tiny.score(encoded, alone)[:, 0]
    among = tiny.score(encoded, [trie] * trie.num_labels).diagonal()
    torch.testing.assert_close(each, among, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(each.sum(), prompts, retain_graph=True)
    (expected,) = torch.autograd.grad(among.sum(), prompts)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    assert max(one.num_nodes for one in alone) <= trie.num_nodes
    assert min(one.num_nodes for one in alone) == 1 < trie.num_nodes


@pytest.mark.parametrize(
    ("labels", "check"),
    [
        ([[5]], "number of labels"),
        ([[i] for i in range(2, 1_003)], "number of labels"),
        ([[5], []], "tokens of label 1"),
        ([[5], [6] * 33], "tokens of label 1"),
        ([[5, 6], [7], [5, 6]], "label words"),
        ([[5], [6, 1]], "tokens of label 1"),
        ([[i, *range(2_000 + 31 * i, 2_031 + 31 * i)] for i in range(2, 200)], "label trie nodes"),
    ],
)
@pytest.mark.slow
def test_labels_out_of_bounds_are_refused(labels: list[list[int]], check: str) -> None:
    with pytest.raises(InvalidLabels, match=check):
        build(*labels)


@pytest.mark.parametrize("labels", [["yes", " "], ["yes", ""], ["yes", "yes"], ["yes", "</s>"], ["yes", " yes"]])
def test_words_that_cannot_be_told_apart_are_refused(tiny: Backbone, labels: list[str]) -> None:
    with pytest.raises(InvalidLabels):
        tiny.label_trie(labels)


def test_many_labels_score_as_a_distribution(tiny: Backbone) -> None:
    trie = build_trie([[3 + i // 10, 3 + i % 10, 20] for i in range(100)], start_id=0, eos_id=1)
    nodes = torch.randn(trie.num_nodes, tiny.width)
    assert label_log_probs(nodes, tiny.weights.head, [trie]).exp().sum() == pytest.approx(1, abs=1e-4)
