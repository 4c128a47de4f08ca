"""Parity of the packed forward with `transformers`, and the promises that packing must keep."""

from pathlib import Path

import pytest
import torch
from support.adapters import make_adapter
from support.backbone import LABEL_SETS, mixed_rows
from transformers import T5ForConditionalGeneration

from backbone import Backbone, PackedRow, load, pack
from backbone.encoder import Padded, RowByRow
from backbone.relative_bias import EncoderBias, TreeBias, relative_buckets
from backbone.trie import build_trie
from verification.reference import reference_log_probs


def largest_difference(backbone: Backbone, model: T5ForConditionalGeneration) -> float:
    rows, table, label_sets = mixed_rows(backbone)
    tries = [backbone.label_trie(labels) for labels in label_sets]
    worst = 0.0
    with torch.inference_mode():
        scores = backbone.score(backbone.encode(pack(rows), table), tries)
        for row, labels, ours in zip(rows, label_sets, scores, strict=True):
            words = [[*pieces, backbone.architecture.eos_id] for pieces in backbone.tokenizer.pieces(labels)]
            expected = reference_log_probs(model, table[list(row.prompt_rows)], tuple(row.token_ids), words)
            worst = max(worst, float((ours[: len(labels)] - expected).abs().max()))
            assert ours[: len(labels)].argmax() == expected.argmax()
    return worst


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_a_tiny_t5_scores_labels_as_transformers_does(
    folder: str, cache_dir: Path, request: pytest.FixtureRequest
) -> None:
    path = str(request.getfixturevalue(folder))
    model = T5ForConditionalGeneration.from_pretrained(path).eval()
    assert largest_difference(load(path, cache_dir=cache_dir), model) <= 1e-4


@pytest.mark.slow
def test_the_embedded_backbone_scores_labels_as_transformers_does(embedded: Backbone, cache_dir: Path) -> None:
    model = T5ForConditionalGeneration.from_pretrained(cache_dir / "embedded-0.2.0", dtype=torch.float32).eval()
    assert largest_difference(embedded, model) <= 1e-4


@pytest.mark.slow
def test_a_mixed_batch_answers_each_row_as_if_alone(embedded: Backbone) -> None:
    rows, table, label_sets = mixed_rows(embedded)
    tries = [embedded.label_trie(labels) for labels in label_sets]
    with torch.inference_mode():
        together = embedded.score(embedded.encode(pack(rows), table), tries)
        for i, (row, trie) in enumerate(zip(rows, tries, strict=True)):
            alone = embedded.score(embedded.encode(pack([row]), table), [trie])[0]
            assert alone.argmax() == together[i].argmax()
            assert (alone - together[i, : trie.num_labels]).abs().max() <= 1e-4


def test_label_scores_are_a_distribution(tiny: Backbone) -> None:
    rows, table, label_sets = mixed_rows(tiny)
    tries = [tiny.label_trie(labels) for labels in label_sets]
    scores = tiny.score(tiny.encode(pack(rows), table), tries)
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(rows)), atol=1e-5)
    for row, trie in zip(scores, tries, strict=True):
        assert torch.isinf(row[trie.num_labels :]).all()


def test_scattered_prompt_rows_mean_the_same_as_adjacent_ones(tiny: Backbone) -> None:
    prompt = torch.from_numpy(make_adapter(tiny).prompt.copy())  # [10, H]
    places = torch.tensor([7, 3, 19, 0, 11, 5, 2, 17, 13, 1])
    table = torch.zeros(20, tiny.width).index_copy(0, places, prompt)
    tokens = tiny.tokenizer.tokenize(["a gripping film"], max_tokens=64, truncation="error")[0].token_ids
    trie = tiny.label_trie(["yes", "no"])
    adjacent = tiny.score(tiny.encode(pack([PackedRow(range(10), tokens)]), prompt), [trie])
    scattered = tiny.score(tiny.encode(pack([PackedRow(places.tolist(), tokens)]), table), [trie])
    assert torch.equal(adjacent, scattered)


def test_gradients_reach_the_prompt_rows_used_and_nothing_else(tiny: Backbone) -> None:
    table = torch.randn(12, tiny.width, requires_grad=True)
    tokens = tiny.tokenizer.tokenize(["a gripping film"], max_tokens=64, truncation="error")[0].token_ids
    scores = tiny.score(tiny.encode(pack([PackedRow(range(2, 8), tokens)]), table), [tiny.label_trie(["yes", "no"])])
    (-scores[0, 0]).backward()
    assert table.grad is not None
    used = table.grad.abs().sum(1) > 0
    assert used.tolist() == [False] * 2 + [True] * 6 + [False] * 4
    assert all(not tensor.requires_grad and tensor.grad is None for tensor in tiny.weights.tensors().values())


def test_gradients_equal_those_of_transformers(tiny: Backbone, tiny_t5: Path) -> None:
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5).eval()
    labels = ["world", "world news", "sports"]
    words = [[*pieces, 1] for pieces in tiny.tokenizer.pieces(labels)]
    tokens = tiny.tokenizer.tokenize(["the world of sports"], max_tokens=64, truncation="error")[0].token_ids
    start = torch.from_numpy(make_adapter(tiny).prompt.copy())
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    tiny.score(tiny.encode(pack([PackedRow(range(10), tokens)]), ours), [tiny.label_trie(labels)])[0, 1].backward()
    reference_log_probs(model, theirs, tokens, words)[1].backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_gradients_flow_after_longer_rows_were_seen_without_them(tiny_t5: Path, cache_dir: Path) -> None:
    backbone = load(str(tiny_t5), cache_dir=cache_dir)
    trie = backbone.label_trie(["world", "world news"])
    table = torch.randn(10, backbone.width, requires_grad=True)
    with torch.inference_mode():
        backbone.score(backbone.encode(pack([PackedRow(range(10), (5,) * 300)]), table), [trie])
    backbone.score(backbone.encode(pack([PackedRow(range(10), (5,) * 200)]), table), [trie])[0, 0].backward()
    assert table.grad is not None
    assert table.grad.abs().sum() > 0


@pytest.mark.slow
def test_the_same_batch_gives_the_same_gradient_to_the_bit(embedded: Backbone) -> None:
    trie = embedded.label_trie(["world", "sports", "business", "technology"])
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(3, 30_000, (32, 40), generator=generator).tolist()
    start = torch.randn(10, embedded.width, generator=generator) * 13
    gradients = []
    for _ in range(3):
        prompt = start.clone().requires_grad_()
        packed = pack([PackedRow(range(10), ids) for ids in texts])
        (-embedded.score(embedded.encode(packed, prompt), [trie] * 32)[:, 0].mean()).backward()
        assert prompt.grad is not None
        gradients.append(prompt.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@pytest.mark.slow
def test_fp32_answers_are_the_same_to_the_bit_whatever_else_is_in_the_batch(embedded: Backbone) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 90, 17, 40, 8, 61, 25, 33, 5, 74, 12, 50]
    rows = [
        PackedRow(range(7 * i % 40, 7 * i % 40 + 1 + i), torch.randint(3, 30_000, (n,), generator=generator).tolist())
        for i, n in enumerate(lengths)
    ]
    table = torch.randn(60, embedded.width, generator=generator) * 13
    tries = [embedded.label_trie(LABEL_SETS[i % len(LABEL_SETS)]) for i in range(len(rows))]
    with torch.inference_mode():
        alone = [
            embedded.score(embedded.encode(pack([row]), table), [trie]) for row, trie in zip(rows, tries, strict=True)
        ]
        for chosen in ([0, 1], [2, 3, 4], list(range(12)), list(range(11, -1, -1)), [5, 5, 5, 5, 5], [1, 9, 0]):
            scores = embedded.score(embedded.encode(pack([rows[i] for i in chosen]), table), [tries[i] for i in chosen])
            for place, i in enumerate(chosen):
                assert torch.equal(scores[place, : tries[i].num_labels], alone[i][0])


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_the_forward_that_serves_and_the_one_that_trains_are_the_same_function(
    folder: str, cache_dir: Path, request: pytest.FixtureRequest
) -> None:
    backbone = load(str(request.getfixturevalue(folder)), cache_dir=cache_dir)
    rows, table, label_sets = mixed_rows(backbone)
    tries = [backbone.label_trie(labels) for labels in label_sets]
    trains = backbone.score(backbone.encode(pack(rows), table.requires_grad_()), tries).detach()
    with torch.inference_mode():
        serves = backbone.score(backbone.encode(pack(rows), table), tries)
    torch.testing.assert_close(serves, trains, atol=1e-5, rtol=1e-5)


def test_one_long_row_makes_no_large_mask_for_the_others_and_leaves_no_memory_behind() -> None:
    bias = EncoderBias(torch.randn(32, 3), num_buckets=32, max_distance=128)
    lengths = [2_058, *[20] * 100]
    padded = Padded(lengths, bias, device=torch.device("cpu"))
    assert sum(group._bias.untyped_storage().nbytes() for group in padded._groups) < 2 * 3 * 2_058**2 * 4
    RowByRow(lengths, bias)
    assert bias._kept.untyped_storage().nbytes() <= 3 * 512**2 * 4


def test_a_bias_is_that_of_every_pair_of_positions() -> None:
    table = torch.randn(32, 3)
    bias = EncoderBias(table, num_buckets=32, max_distance=128)
    for length in (1, 7, 128, 129, 511, 700):
        (found,) = bias.for_lengths([length])
        at = torch.arange(length)
        buckets = relative_buckets(at[None] - at[:, None], bidirectional=True, num_buckets=32, max_distance=128)
        assert torch.equal(found, table[buckets].permute(2, 0, 1))


def test_padded_attention_is_the_same_as_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    bias = EncoderBias(torch.randn(32, 3, generator=generator), num_buckets=32, max_distance=128)
    for lengths in ([5], [1, 1, 1], [7, 40, 1, 23], [64, 3], [33, 600, 64, 2, 1, 5]):
        qkv = torch.randn(sum(lengths), 3, 3, 8, generator=generator)
        padded = Padded(lengths, bias, device=torch.device("cpu"))
        torch.testing.assert_close(padded(qkv), RowByRow(lengths, bias)(qkv), atol=1e-5, rtol=1e-5)


def test_the_biases_of_many_tries_stay_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbone.relative_bias._KEPT_BYTES", 100_000)
    bias = TreeBias(torch.randn(32, 3), num_buckets=32, max_distance=128)
    tries = [
        build_trie([[2 + i % 20, 30 + i // 20, 3 + (i + seed) % 7] for i in range(60)], start_id=0, eos_id=1)
        for seed in range(40)
    ]
    first = bias.of(tries[0], range(tries[0].num_nodes)).clone()
    for trie in tries:
        bias.of(trie, range(trie.num_nodes))
        assert sum(kept.nbytes for kept in bias._known.values()) <= 100_000
    assert torch.equal(bias.of(tries[0], range(tries[0].num_nodes)), first)
