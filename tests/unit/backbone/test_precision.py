"""int8 and bf16: close to fp32, the same for a row whatever its neighbours, and served only where it was validated."""

from pathlib import Path

import pytest
import torch
from support.backbone import mixed_rows
from support.threads import on_threads

from backbone import Backbone, DeviceUnavailable, Precision, load, pack
from backbone.int8 import Int8Linear
from backbone.linear import FloatLinear
from backbone.precision import cpu_has_bf16, in_precision


def test_rounding_activations_twice_keeps_what_an_outlier_leaves_of_its_row() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 64, generator=generator), torch.randn(9, 64, generator=generator)
    x[:, 7] *= 100
    once, twice = Int8Linear(weight), Int8Linear(weight, twice=True)
    exact = x @ (once.weight * (weight.abs().amax(1, keepdim=True) / 127)).T  # with the weights as they were rounded
    with torch.inference_mode():
        coarse, fine = (float((layer(x) - exact).abs().max()) for layer in (once, twice))
    assert fine < coarse / 50
    assert fine < 1e-3 * float(exact.abs().max())


def test_what_follows_an_int8_layer_is_what_follows_a_float_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 64, generator=generator), torch.randn(9, 64, generator=generator)
    other = torch.randn(9, 48, generator=generator)
    int8, fp32 = Int8Linear(weight, twice=True), FloatLinear(weight)
    with torch.inference_mode():
        for options in ({"activation": "relu"}, {"activation": "gelu_new"}, {"times": other}, {"plus": other}, {}):
            torch.testing.assert_close(int8(x, **options), fp32(x, **options), atol=0.5, rtol=0.05)
        assert torch.allclose(int8(x, plus=other), int8(x) + other, atol=1e-4)


def test_rows_of_a_layer_in_int8_do_not_depend_on_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.randn(48, 64, generator=generator))
    x = torch.randn(12, 64, generator=generator)
    with torch.inference_mode():
        together = layer(x)
        x[6:] *= 1_000
        assert torch.equal(layer(x)[:6], together[:6])


def test_a_value_that_is_no_number_stays_in_its_row() -> None:
    layer = Int8Linear(torch.ones(8, 16))
    x = torch.ones(5, 16)
    x[2, 3] = torch.nan
    with torch.inference_mode():
        y = layer(x)
    assert y[2].isnan().all()
    assert torch.isfinite(y[[0, 1, 3, 4]]).all()


@pytest.mark.slow
def test_int8_answers_are_the_same_to_the_bit_in_any_batch(embedded: Backbone) -> None:
    int8 = embedded.in_precision("int8")
    rows, table, label_sets = mixed_rows(embedded)
    tries = [int8.label_trie(labels) for labels in label_sets]
    with torch.inference_mode():
        together = int8.score(int8.encode(pack(rows), table), tries)
        backwards = int8.score(int8.encode(pack(rows[::-1]), table), tries[::-1])
        assert torch.equal(together, backwards.flip(0))
        for i, (row, trie) in enumerate(zip(rows, tries, strict=True)):
            alone = int8.score(int8.encode(pack([row] * 4), table), [trie] * 4)
            assert torch.equal(alone[0], together[i, : trie.num_labels])


def test_bf16_matrices_leave_scores_near_those_of_fp32(tiny: Backbone) -> None:
    rows, table, label_sets = mixed_rows(tiny)
    tries = [tiny.label_trie(labels) for labels in label_sets]
    bf16 = Backbone(tiny.identity, tiny.architecture, in_precision(tiny.weights, "bf16"), tiny.tokenizer)
    with torch.inference_mode():
        exact = tiny.score(tiny.encode(pack(rows), table), tries)
        rough = bf16.score(bf16.encode(pack(rows), table), tries)
    known = torch.isfinite(exact)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact)[known].abs().max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_bf16_answers_are_the_same_to_the_bit_in_any_batch(embedded: Backbone, threads: int) -> None:
    if not cpu_has_bf16():
        with pytest.raises(DeviceUnavailable, match="which this CPU lacks"):
            embedded.in_precision("bf16")
        return
    bf16 = embedded.in_precision("bf16")
    rows, table, label_sets = mixed_rows(embedded)
    tries = [bf16.label_trie(labels) for labels in label_sets]
    with on_threads(threads), torch.inference_mode():
        together = bf16.score(bf16.encode(pack(rows), table), tries)
        backwards = bf16.score(bf16.encode(pack(rows[::-1]), table), tries[::-1])
        assert torch.equal(together, backwards.flip(0))
        for i, (row, trie) in enumerate(zip(rows, tries, strict=True)):
            for copies in (1, 4):
                alone = bf16.score(bf16.encode(pack([row] * copies), table), [trie] * copies)
                assert torch.equal(alone[0], together[i, : trie.num_labels])


def test_bf16_on_a_cpu_is_for_one_that_multiplies_in_it(tiny: Backbone, tiny_t5: Path, cache_dir: Path) -> None:
    if not cpu_has_bf16():
        with pytest.raises(DeviceUnavailable, match="which this CPU lacks"):
            load(str(tiny_t5), cache_dir=cache_dir, precision="bf16")
        return
    bf16 = load(str(tiny_t5), cache_dir=cache_dir, precision="bf16")
    rows, table, label_sets = mixed_rows(tiny)
    table = table.clone().requires_grad_()
    scores = bf16.score(bf16.encode(pack(rows), table), [bf16.label_trie(labels) for labels in label_sets])
    scores[:, 0].sum().backward()
    assert table.grad is not None
    assert table.grad.dtype == torch.float32
    assert table.grad.abs().sum() > 0


@pytest.mark.parametrize("precision", ["fp32", "int8", *(["bf16"] if cpu_has_bf16() else [])])
def test_a_compact_backbone_keeps_each_weight_once_and_answers_to_the_bit_as_before(
    tiny: Backbone, tiny_t5: Path, cache_dir: Path, precision: Precision
) -> None:
    rows, prompts, label_sets = mixed_rows(tiny)
    tries = [tiny.label_trie(labels) for labels in label_sets]
    loaded = load(str(tiny_t5), cache_dir=cache_dir, precision=precision)
    compact = loaded.compact()
    assert not any(tensor.is_meta for tensor in loaded.weights.tensors().values()), "it is a copy"
    encoder, decoder = len(compact.weights.encoder), len(compact.weights.decoder)
    num_freed = sum(tensor.is_meta for tensor in compact.weights.tensors().values())
    assert num_freed == (0 if precision == "int8" else 5 * encoder) + 8 * decoder
    with torch.inference_mode():
        whole, found = (
            backbone.score(backbone.encode(pack(rows), prompts), tries)
            for backbone in (tiny.in_precision(precision), compact)
        )
    assert torch.equal(whole, found)
