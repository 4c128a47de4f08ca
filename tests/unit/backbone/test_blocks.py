"""Blocks of rows of a product, and attention over padded buckets: what a row gets does not depend on the others."""

from functools import reduce

import pytest
import torch

from backbone.blocks import LARGE_BLOCKS, alike, block_edges, block_sizes, probe
from backbone.buckets import CrossAttention, SelfAttention, padded_length
from backbone.encoder import RowByRow
from backbone.layers import attend
from backbone.linear import FloatLinear
from backbone.pieces import Progress, no_pause
from backbone.relative_bias import EncoderBias

HEADS, WIDTH = 2, 8


@pytest.mark.parametrize("length", [1, 16, 28, 33, 63, 64, 65, 100, 190, 200, 256, 257, 300, 1_000, 2_000])
def test_blocks_cover_all_rows_with_little_padding(length: int) -> None:
    sizes = block_sizes(length, LARGE_BLOCKS)
    assert set(sizes) <= set(LARGE_BLOCKS)
    assert length <= sum(sizes) < length + 64
    assert block_edges(length, LARGE_BLOCKS)[-1] == sum(sizes)


@pytest.mark.parametrize("other", [4, 8, 16])
def test_sizes_that_add_in_another_order_than_most_are_left_out(other: int) -> None:
    weight = torch.zeros(6, 32)

    def compute(x: torch.Tensor) -> list[torch.Tensor]:
        terms = x[:, None, :] * probe(weight)[1]  # [N, out, in], added one after another, for `other` rows backwards
        columns = terms.unbind(-1)
        return [reduce(torch.add, reversed(columns) if len(x) == other else columns)]

    assert alike((4, 8, 16), weight, compute) == tuple(size for size in (4, 8, 16) if size != other)


def test_of_sizes_that_all_differ_one_is_used() -> None:
    def compute(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.full((len(x), 1), float(len(x)))]

    assert alike((4, 8), torch.zeros(6, 32), compute) == (4,)


def test_a_layer_in_blocks_computes_any_number_of_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator)
    blocks, whole = FloatLinear(weight, blocks=(4, 8)), FloatLinear(weight)
    with torch.inference_mode():
        for count in (1, 3, 4, 5, 8, 13, 30):
            x, other = (torch.randn(count, width, generator=generator) for width in (64, 48))
            for options in ({"activation": "gelu_new"}, {"times": other}, {"plus": other}, {}):
                assert torch.allclose(blocks(x, **options), whole(x, **options), atol=1e-5)


def test_attention_in_buckets_equals_attention_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 31, 32, 33, 64, 65, 200, 600, 7, 40]
    bias = EncoderBias(torch.randn(32, HEADS, generator=generator), num_buckets=32, max_distance=128)
    num_positions = sum(lengths) + 5  # the padding of a last block
    qkv = torch.randn(num_positions, 3 * HEADS * WIDTH, generator=generator)
    qkv[sum(lengths) :] = 0
    with torch.inference_mode():
        rows = SelfAttention(
            lengths, bias, num_positions=num_positions, heads=HEADS, head_dim=WIDTH, dtype=torch.float32
        )
        for first in range(0, num_positions, 100):
            rows.write(first, qkv[first : first + 100])
        rows.compute(Progress(no_pause))
        expected = RowByRow(lengths, bias)(qkv[: sum(lengths)].view(-1, 3, HEADS, WIDTH))
        assert torch.allclose(rows.read(0, sum(lengths)), expected, atol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
def test_cross_attention_in_groups_equals_one_row_at_a_time(*, is_training: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths, counts = [5, 40, 33, 7, 64], [1, 3, 3, 1, 300]
    states = [torch.randn(length, WIDTH, generator=generator).requires_grad_(is_training) for length in lengths]
    queries = torch.randn(sum(counts) + 2, HEADS, WIDTH, generator=generator)  # two nodes of padding
    with torch.inference_mode(not is_training):
        mixed = CrossAttention(states, counts, dtype=torch.float32)(queries, Progress(no_pause))
        assert mixed.shape == queries.shape
        assert not mixed[sum(counts) :].any()
        for state, part, query in zip(
            states, torch.split(mixed[: sum(counts)], counts), torch.split(queries[: sum(counts)], counts), strict=True
        ):
            key = state[:, None].expand(-1, HEADS, -1)
            no_bias = torch.zeros(HEADS, len(query), len(state))
            assert torch.allclose(part.flatten(1), attend(query, key, key, no_bias), atol=1e-5)
    if is_training:
        mixed.sum().backward()
        assert all(state.grad is not None and torch.isfinite(state.grad).all() for state in states)


def test_a_padded_length_is_the_next_multiple_of_32() -> None:
    assert [padded_length(length) for length in (1, 32, 33)] == [32, 32, 64]
