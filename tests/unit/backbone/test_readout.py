"""Learned readouts: parity with `transformers`, mixed batches, prompts without tokens, gradients."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backbone import LABEL_SETS, mixed_rows
from torch import Tensor
from transformers import T5ForConditionalGeneration

from backbone import Backbone, LabelVectors, LearnedState, PackedRow, Readout, RowSpan, load, pack
from backbone.readout import pooled_states
from verification.reference import reference_state

STATES: tuple[LearnedState, ...] = ("soft", "pooled", "joint")


def label_vectors(backbone: Backbone, state: LearnedState, num_labels: int, *, seed: int = 0) -> LabelVectors:
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randn(num_labels, backbone.state_width(state), generator=random) / backbone.width**0.5
    return LabelVectors(state, vectors, torch.randn(num_labels, generator=random))


def largest_difference(backbone: Backbone, model: T5ForConditionalGeneration, state: LearnedState) -> float:
    rows, table, _ = mixed_rows(backbone)
    rows.append(PackedRow((), rows[0].token_ids))
    readouts = [label_vectors(backbone, state, 2 + seed, seed=seed) for seed in range(len(rows))]
    readouts = [replace(each, activation="sigmoid") if i % 2 else each for i, each in enumerate(readouts)]
    worst = 0.0
    with torch.inference_mode():
        scores = backbone.score(backbone.encode(pack(rows), table), readouts)
        for row, readout, ours in zip(rows, readouts, scores, strict=True):
            theirs = reference_state(model, table[list(row.prompt_rows)], tuple(row.token_ids), state)
            logits = readout.vectors @ theirs + readout.bias
            expected = logits.sigmoid().log() if readout.activation == "sigmoid" else torch.log_softmax(logits, dim=0)
            worst = max(worst, float((ours[: readout.num_labels] - expected).abs().max()))
            assert torch.isneginf(ours[readout.num_labels :]).all()
    return worst


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_learned_readouts_score_as_transformers_does(
    folder: str, state: LearnedState, cache_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    changed = shutil.copytree(request.getfixturevalue(folder), tmp_path / "t5")
    model = T5ForConditionalGeneration.from_pretrained(changed).eval()
    with torch.no_grad():  # norms of 1, as in a new model, would hide that they are not applied
        model.encoder.final_layer_norm.weight.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(changed)
    assert largest_difference(load(str(changed), cache_dir=cache_dir), model, state) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_learned_readouts_on_the_embedded_backbone_score_as_transformers_does(
    embedded: Backbone, cache_dir: Path, state: LearnedState
) -> None:
    model = T5ForConditionalGeneration.from_pretrained(cache_dir / "embedded-0.2.0", dtype=torch.float32).eval()
    assert largest_difference(embedded, model, state) <= 1e-4


Kinds = st.lists(
    st.tuples(st.sampled_from(["words", *STATES]), st.integers(0, 6), st.integers(1, 30), st.integers(2, 9)),
    min_size=1,
    max_size=9,
)


@given(kinds=Kinds)
@settings(max_examples=60, deadline=None)
def test_a_batch_of_mixed_readouts_answers_each_row_as_if_alone_to_the_bit(
    tiny: Backbone, kinds: list[tuple[str, int, int, int]]
) -> None:
    random = torch.Generator().manual_seed(len(kinds))
    table = torch.randn(8, tiny.width, generator=random)
    rows: list[PackedRow] = []
    readouts: list[Readout] = []
    shared = [label_vectors(tiny, state, 5) for state in STATES]
    several = [replace(label_vectors(tiny, state, 6), activation="sigmoid") for state in STATES]
    for kind, prompt, tokens, labels in kinds:
        rows.append(PackedRow(range(prompt), torch.randint(3, 90, (tokens,), generator=random).tolist()))
        if kind == "words":
            readouts.append(tiny.label_trie(LABEL_SETS[labels % len(LABEL_SETS)]))
        elif labels == 5:
            readouts.append(shared[STATES.index(kind)])  # type: ignore[arg-type]
        elif labels == 6:
            readouts.append(several[STATES.index(kind)])  # type: ignore[arg-type]
        else:
            readouts.append(label_vectors(tiny, kind, labels))  # type: ignore[arg-type]
    with torch.inference_mode():
        together = tiny.score(tiny.encode(pack(rows), table), readouts)
        searched = tiny.score(tiny.encode(pack(rows), table), readouts, top_k=[1] * len(rows))
        for row, readout, ours, best in zip(rows, readouts, together, searched, strict=True):
            alone = tiny.score(tiny.encode(pack([row]), table), [readout])[0]
            assert torch.equal(ours[: readout.num_labels], alone)
            assert torch.isneginf(ours[readout.num_labels :]).all()
            assert best.argmax() == ours.argmax()
            if not (isinstance(readout, LabelVectors) and readout.activation == "sigmoid"):
                assert ours.exp().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("state", STATES)
def test_gradients_reach_the_vectors_and_the_prompt_but_not_the_model(tiny: Backbone, state: LearnedState) -> None:
    table = torch.randn(4, tiny.width, requires_grad=True)
    readout = label_vectors(tiny, state, 3)
    readout.vectors.requires_grad_()
    readout.bias.requires_grad_()
    packed = pack([PackedRow(range(4), (5, 6, 1)), PackedRow((), (7, 1))])
    scores = tiny.score(tiny.encode(packed, table), [readout, readout])
    (-scores[:, 1].sum()).backward()
    for tensor in (table, readout.vectors, readout.bias):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0
    assert all(tensor.grad is None for tensor in tiny.weights.tensors().values())


def test_states_are_those_that_scores_are_made_of(tiny: Backbone) -> None:
    rows, table, _ = mixed_rows(tiny)
    with torch.inference_mode():
        encoded = tiny.encode(pack(rows), table)
        for state in STATES:
            readout = label_vectors(tiny, state, 7)
            scores = tiny.score(encoded, [readout] * len(rows))
            assert torch.equal(torch.log_softmax(readout.logits(tiny.states(encoded, state)), -1), scores)
            assert torch.equal(tiny.states(encoded, state, rows=[2]), tiny.states(encoded, state)[2:3])


def test_the_mean_of_a_text_is_the_same_in_one_kernel_as_row_by_row() -> None:
    hidden = torch.randn(50, 16)
    spans = [RowSpan(0, 2, 9), RowSpan(9, 9, 10), RowSpan(12, 15, 50)]
    meta: list[Tensor] = [hidden[span.text_start : span.end] for span in spans]
    lengths = torch.tensor([len(each) for each in meta])
    at_once = torch.segment_reduce(torch.cat(meta), "mean", lengths=lengths)
    assert torch.allclose(pooled_states(hidden, torch.ones(16), spans), at_once, atol=1e-6)
