"""Best-first search: the best labels of a large set, exactly those that scoring them all would give."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backbone import Backbone, PackedRow, pack
from backbone.best_first import best_first
from backbone.decoder import TrieNodes, passes
from backbone.scoring import label_log_probs
from backbone.trie import LabelTrie, build_trie

WIDTH, VOCABULARY = 8, 9
label_sets = st.lists(
    st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=5), min_size=2, max_size=40, unique_by=tuple
)


def brute_force(states: Tensor, head: Tensor, trie: LabelTrie, labels: Sequence[Sequence[int]]) -> Tensor:
    """DESIGN.md §3, read word by word: at each step of a label a softmax over the tokens that some label has there."""
    places = {(): 0}
    for node in range(1, trie.num_nodes):
        parent = next(prefix for prefix, at in places.items() if at == trie.node_parents[node])
        places[(*parent, trie.node_tokens[node])] = node
    scores = []
    ended = [(*label, 1) for label in labels]
    for label in ended:
        total = torch.zeros(())
        for step, token in enumerate(label):
            children = sorted({other[step] for other in ended if len(other) > step and other[:step] == label[:step]})
            if len(children) > 1:
                logits = head[children] @ states[places[label[:step]]]
                total = total + torch.log_softmax(logits, 0)[children.index(token)]
        scores.append(total)
    return torch.stack(scores)


def states_of(trie: LabelTrie, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(trie.num_nodes, WIDTH, generator=generator)
    return states, torch.randn(VOCABULARY, WIDTH, generator=generator)


@settings(deadline=None)
@given(labels=label_sets, seed=st.integers(0, 1_000))
def test_trie_scores_are_those_of_every_label_decoded_by_itself(labels: list[list[int]], seed: int) -> None:
    trie = build_trie(labels, start_id=0, eos_id=1)
    states, head = states_of(trie, seed)
    scores = label_log_probs(states, head, [trie])[0]
    torch.testing.assert_close(scores, brute_force(states, head, trie, labels), atol=1e-5, rtol=1e-5)


@settings(deadline=None)
@given(labels=label_sets, seed=st.integers(0, 1_000), top_k=st.integers(1, 45))
@pytest.mark.slow
def test_best_first_search_finds_exactly_the_best_labels(labels: list[list[int]], seed: int, top_k: int) -> None:
    trie = build_trie(labels, start_id=0, eos_id=1)
    states, head = states_of(trie, seed)
    everything = label_log_probs(states, head, [trie])[0]

    def decode(rows: Sequence[int], nodes: Sequence[TrieNodes]) -> Tensor:
        assert rows == [0]
        return states[list(nodes[0].nodes)]

    found = best_first(decode, head, [trie], [top_k], [1_000_000]).scores[0]
    known = torch.isfinite(found)
    assert known.sum() >= min(top_k, len(labels))
    torch.testing.assert_close(found[known], everything[known], atol=1e-5, rtol=1e-5)
    if not known.all():
        assert everything[~known].max() <= found[known].sort(descending=True).values[top_k - 1] + 1e-5


@settings(deadline=None)
@given(labels=label_sets, seed=st.integers(0, 1_000), top_k=st.integers(1, 45), budget=st.integers(1, 60))
@pytest.mark.slow
def test_a_search_decodes_at_most_its_budget(labels: list[list[int]], seed: int, top_k: int, budget: int) -> None:
    trie = build_trie(labels, start_id=0, eos_id=1)
    states, head = states_of(trie, seed)
    decoded: list[int] = []

    def decode(rows: Sequence[int], nodes: Sequence[TrieNodes]) -> Tensor:
        decoded.append(nodes[0].num_nodes)
        return states[list(nodes[0].nodes)]

    found = best_first(decode, head, [trie], [top_k], [budget])
    assert sum(decoded) <= budget
    if found.exhausted:
        unlimited = best_first(decode, head, [trie], [top_k], [1_000_000])
        assert unlimited.exhausted == []
        assert sum(decoded) > budget
    else:
        everything = label_log_probs(states, head, [trie])[0]
        best = min(top_k, len(labels))
        torch.testing.assert_close(
            found.scores[0].topk(best).values, everything.topk(best).values, atol=1e-5, rtol=1e-5
        )


def test_a_row_whose_labels_hardly_differ_is_scored_over_its_whole_trie(tiny: Backbone) -> None:
    trie = build_trie([[3 + i // 20, 3 + i % 20, 40 + i % 7, 50] for i in range(800)], start_id=0, eos_id=1)
    flat = torch.zeros(4, tiny.width)
    with torch.inference_mode():
        encoded = tiny.encode(pack([PackedRow(range(4), (5, 6, 7, 1)), PackedRow(range(4), (8, 9, 1))]), flat)
        assert tiny.search(encoded, [trie, trie], [100, None]).exhausted == [0]
        scores, everything = tiny.score(encoded, [trie, trie], top_k=[100, None]), tiny.score(encoded, [trie, trie])
    torch.testing.assert_close(scores, everything, atol=1e-5, rtol=1e-5)


def test_a_round_of_many_rows_is_decoded_in_passes_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    trie = build_trie([[2 + i // 30, 40 + i % 30, 3] for i in range(900)], start_id=0, eos_id=1)
    monkeypatch.setattr("backbone.decoder._PASS_NODES", 40)
    passes_seen: list[int] = []

    def decode(rows: Sequence[int], nodes: Sequence[TrieNodes]) -> Tensor:
        passes_seen.append(sum(each.num_nodes for each in nodes))
        return torch.zeros(passes_seen[-1], WIDTH)

    found = best_first(decode, torch.zeros(100, WIDTH), [trie] * 50, [10] * 50, [200] * 50)
    assert max(passes_seen) <= 40
    assert len(passes_seen) > 50
    assert found.exhausted == []


def test_a_search_looks_at_few_nodes_where_one_label_is_likely() -> None:
    trie = build_trie([[2 + i // 30, 40 + i % 30, 3] for i in range(900)], start_id=0, eos_id=1)
    head = torch.zeros(100, WIDTH)
    head[7, 0] = head[51, 0] = 20.0
    looked: list[int] = []

    def decode(rows: Sequence[int], nodes: Sequence[TrieNodes]) -> Tensor:
        looked.extend(nodes[0].nodes)
        return torch.nn.functional.one_hot(torch.zeros(nodes[0].num_nodes, dtype=torch.int64), WIDTH).float()

    scores = best_first(decode, head, [trie], [1], [1_000_000]).scores[0]
    assert int(scores.argmax()) == 5 * 30 + 11
    assert len(looked) == 3  # the first choice, then that again with the one below it


def test_top_k_equals_scoring_everything_in_a_mixed_batch(tiny: Backbone) -> None:
    generator = torch.Generator().manual_seed(0)
    large = build_trie([[3 + i // 12, 3 + i % 12, 20 + i % 3] for i in range(144)], start_id=0, eos_id=1)
    small = tiny.label_trie(["yes", "no"])
    tries = [large, small, large, large]
    rows = [PackedRow(range(10), torch.randint(3, 90, (9 + i,), generator=generator).tolist()) for i in range(4)]
    prompts = torch.randn(10, tiny.width, generator=generator)
    with torch.inference_mode():
        encoded = tiny.encode(pack(rows), prompts)
        everything = tiny.score(encoded, tries)
        best = tiny.score(encoded, tries, top_k=[5, 5, None, 1])
    assert torch.equal(best[1, :2], everything[1, :2])
    assert torch.equal(best[2], everything[2])
    for row, k in ((0, 5), (3, 1)):
        expected = everything[row].topk(k)
        found = best[row].topk(k)
        assert torch.equal(found.indices, expected.indices)
        torch.testing.assert_close(found.values, expected.values, atol=2e-5, rtol=1e-5)
        assert torch.isinf(best[row]).any()


def test_a_trie_of_thousands_of_nodes_is_decoded_in_parts_with_the_same_scores(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    trie = build_trie([[3 + i // 20, 3 + i % 20, 40 + i % 7] for i in range(400)], start_id=0, eos_id=1)
    assert trie.num_nodes > 20
    with torch.inference_mode():
        encoded = tiny.encode(pack([PackedRow(range(4), (5, 6, 7, 1))] * 3), torch.ones(4, tiny.width))
        whole = tiny.score(encoded, [trie] * 3)
        monkeypatch.setattr("backbone.decoder._PART_NODES", 5)
        monkeypatch.setattr("backbone.decoder._PASS_NODES", 12)
        assert len(passes([trie] * 3)) > 6
        parts = tiny.score(encoded, [trie] * 3)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
