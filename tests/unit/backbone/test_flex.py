"""Attention of all packed rows in one kernel equals the attention of each row, and no forward waits for the device."""

import random
from dataclasses import fields, is_dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backbone import make_t5, mixed_rows
from torch.nn.attention.flex_attention import create_block_mask

from backbone import Backbone, load, pack
from backbone.encoder import ATTENTIONS, Padded, RowByRow
from backbone.flex import Flex, padded_positions
from backbone.linear import FloatLinear
from backbone.relative_bias import EncoderBias
from backbone.staging import staged, staged_together
from backbone.weights import T5Weights

CPU = torch.device("cpu")
ON_CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    ],
)
DEVICES = ["cpu", ON_CUDA]

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def bias_of(seed: int = 0, *, device: torch.device = CPU) -> EncoderBias:
    table = torch.randn(32, 3, generator=torch.Generator().manual_seed(seed))
    return EncoderBias(table.to(device), num_buckets=32, max_distance=128)


@pytest.mark.parametrize("device", DEVICES)
def test_flex_attention_is_the_same_as_row_by_row(device: str) -> None:
    draw = random.Random(0)
    on = torch.device(device)
    bias = bias_of(device=on)
    random_lengths = [[draw.choice([1, 3, 20, 130, 300]) for _ in range(draw.randint(1, 12))] for _ in range(6)]
    for lengths in ([1], [128], [129], [5, 7], [40, 300, 1, 2], [600, *[9] * 20], [900, 500, 3], *random_lengths):
        qkv = torch.randn(sum(lengths), 3, 3, 16, generator=torch.Generator().manual_seed(len(lengths))).to(on)
        found = Flex(lengths, bias, device=on)(qkv)
        torch.testing.assert_close(found, RowByRow(lengths, bias)(qkv), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found, Padded(lengths, bias, device=on)(qkv), atol=1e-4, rtol=1e-4)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_blocks_that_a_kernel_computes_are_those_with_a_pair_of_one_row(lengths: list[int]) -> None:
    block_mask = Flex(lengths, bias_of(), device=CPU).block_mask
    positions = padded_positions(sum(lengths))
    rows = torch.full((positions,), -1)
    for row, (start, length) in enumerate(zip(accumulate(lengths, initial=0), lengths, strict=False)):
        rows[start : start + length] = row
    expected = create_block_mask(
        lambda _batch, _head, query, key: (rows[query] == rows[key]) & (rows[query] >= 0),
        None,
        None,
        positions,
        positions,
        device="cpu",
    )
    assert torch.equal(block_mask.to_dense(), expected.to_dense())


def test_batches_are_padded_to_few_sizes() -> None:
    sizes = {padded_positions(num_tokens) for num_tokens in range(1, 10_000)}
    assert sorted(sizes) == [1_024, 2_048, 4_096, 8_192, 16_384]
    assert all(
        num_tokens <= padded_positions(num_tokens) <= max(1_024, 2 * num_tokens) for num_tokens in range(1, 3_000)
    )


def test_the_bias_by_distance_is_that_of_every_pair_of_positions() -> None:
    bias = bias_of()
    (whole,) = bias.for_lengths([400])
    at = torch.arange(400)
    distances = (at[None, :] - at[:, None]).clamp(-128, 128) + 128
    assert torch.equal(bias.by_distance[:, distances], whole)


@pytest.mark.parametrize("device", DEVICES)
def test_a_backbone_answers_the_same_with_either_attention(device: str, tmp_path: Path, cache_dir: Path) -> None:
    folder = make_t5(tmp_path, gated=True, d_kv=16)  # the kernel on CUDA takes no narrower heads
    scores = []
    for attention in ATTENTIONS:
        backbone = load(str(folder), cache_dir=cache_dir, device=device, attention=attention)
        rows, table, label_sets = mixed_rows(backbone)
        tries = [backbone.label_trie(labels) for labels in label_sets]
        with torch.inference_mode():
            packed = pack(rows, device=backbone.device)
            scores.append(backbone.score(backbone.encode(packed, table.to(backbone.device)), tries).cpu())
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)


def test_training_with_flex_has_the_gradients_of_the_default(tiny: Backbone, tiny_t5: Path, cache_dir: Path) -> None:
    gradients = []
    for backbone in (tiny, load(str(tiny_t5), cache_dir=cache_dir, attention="flex")):
        rows, table, label_sets = mixed_rows(backbone)
        tries = [backbone.label_trie(labels) for labels in label_sets]
        backbone.score(backbone.encode(pack(rows), table.requires_grad_()), tries)[:, 0].sum().backward()
        gradients.append(table.grad)
    assert gradients[0] is not None
    assert torch.equal(gradients[0], gradients[1])


def without_values(part: object) -> object:
    """Return weights on the device `meta`."""
    if isinstance(part, torch.Tensor):
        return part.to("meta")
    if isinstance(part, FloatLinear):
        return FloatLinear(part.weight.to("meta"))
    if isinstance(part, tuple):
        return tuple(map(without_values, part))
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{each.name: without_values(getattr(part, each.name)) for each in fields(part)})
    return part


def test_a_forward_on_another_device_than_the_cpu_never_waits_for_a_value(tiny: Backbone) -> None:
    """On `meta`, tensors have no values, so that an operation that reads one on the host raises an error."""
    meta = torch.device("meta")
    weights = cast(T5Weights, without_values(tiny.weights))
    backbone = Backbone(tiny.identity, tiny.architecture, weights, tiny.tokenizer)
    rows, table, label_sets = mixed_rows(tiny)
    tries = [backbone.label_trie(labels) for labels in label_sets]
    scores = backbone.score(backbone.encode(pack(rows, device=meta), table.to(meta)), tries)
    assert scores.shape == (len(rows), max(map(len, label_sets)))
    with pytest.raises((NotImplementedError, RuntimeError)):
        scores.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_staged_indices_are_those_given_and_share_one_buffer(device: str) -> None:
    lists = [[3, 1, 2], [], [7, 2**40]]
    found = staged_together(lists, torch.device(device))
    assert [tensor.tolist() for tensor in found] == lists
    assert len({tensor.untyped_storage().data_ptr() for tensor in found}) == 1
    assert staged([5, 4], torch.device(device)).tolist() == [5, 4]
    assert staged([], None).dtype == torch.int64
