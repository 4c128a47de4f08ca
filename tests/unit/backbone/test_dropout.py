"""Dropout of the frozen network: where it falls, that it is each row's own, and that scoring never has any."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapters import TOPIC
from support.stack import alone, assert_same, different, make_job
from torch import Tensor
from transformers import T5ForConditionalGeneration

from backbone import Backbone, Dropout, PackedRow, pack
from training.loop.train import train_stack
from training.scoring.evaluation import predict

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [(30, 31, 32, 33, 34, 1), (40, 41, 1), (50, 51, 52, 53, 1)]


def prompt_of(backbone: Backbone) -> Tensor:
    return backbone.weights.embedding[20:24].clone()


def scores(backbone: Backbone, texts: list[tuple[int, ...]], seeds: list[int] | None, labels: list[str]) -> Tensor:
    """[B, K] label log-probabilities; each row's draws by its seed."""
    prompt = prompt_of(backbone)
    dropout = None if seeds is None else Dropout(seeds, device=backbone.device)
    with torch.no_grad():
        encoded = backbone.encode(pack([PackedRow(range(4), ids) for ids in texts]), prompt, dropout=dropout)
        return backbone.score(encoded, [backbone.label_trie(labels)] * len(texts), dropout=dropout)


@pytest.mark.parametrize("labels", [["yes", "no"], list(TOPIC.label_words)])
def test_a_rows_draws_are_its_own_whatever_stands_beside_it(tiny: Backbone, labels: list[str]) -> None:
    together = scores(tiny, TEXTS, [1, 2, 3], labels)
    again = scores(tiny, TEXTS[::-1], [3, 2, 1], labels).flip(0)
    apart = torch.cat([scores(tiny, [ids], [seed], labels) for ids, seed in zip(TEXTS, (1, 2, 3), strict=True)])
    torch.testing.assert_close(together, again, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


def test_other_draws_give_other_scores_around_those_without(tiny: Backbone) -> None:
    plain = scores(tiny, [TEXTS[0]], None, ["yes", "no"])
    drawn = scores(tiny, [TEXTS[0]] * 200, list(range(200)), ["yes", "no"])
    assert drawn[:, 0].std() > 0.01
    assert (drawn[:, 0] > plain[0, 0]).float().mean().item() == pytest.approx(0.5, abs=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("yes", "no"), ("world news", "world science")])
def test_it_spreads_scores_as_transformers_in_training_does(
    tiny: Backbone, tiny_t5: Path, words: tuple[str, str]
) -> None:
    draws = 2_000
    labels = list(words)
    ours = scores(tiny, [TEXTS[0]] * draws, list(range(draws)), labels)
    ours = (ours[:, 0] - ours[:, 1]).double()
    theirs = reference_margins(tiny, tiny_t5, labels, draws=draws)
    # the standard errors at 2,000 draws are 2.2 % of a deviation for a mean and 1.6 % for a deviation
    deviation = theirs.std()
    assert abs(ours.mean() - theirs.mean()) < 0.1 * deviation
    assert ours.std() / deviation == pytest.approx(1, abs=0.08)


class Counted(Dropout):
    """Counts its draws."""

    draws = 0

    def row(self, x: Tensor, number: int) -> Tensor:
        self.draws += 1
        return super().row(x, number)


def test_it_falls_at_as_many_places_as_in_transformers(
    tiny: Backbone, tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["sports", "business"]
    trie, dropout = tiny.label_trie(labels), Counted([1], device=tiny.device)
    assert trie.needs_one_step
    encoded = tiny.encode(pack([PackedRow(range(4), TEXTS[0])]), prompt_of(tiny), dropout=dropout)
    tiny.score(encoded, [trie], dropout=dropout)
    calls = []
    plain = torch.nn.functional.dropout
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda *args, **named: calls.append(1) or plain(*args, **named))
    reference_margins(tiny, tiny_t5, labels, draws=1)
    assert dropout.draws == len(calls) == 2 + 4 * 2 + 2 + 6 * 3


def reference_margins(tiny: Backbone, folder: Path, labels: list[str], *, draws: int) -> Tensor:
    """log p of the first label less that of the second, [draws], by `transformers` in train mode.

    The labels part at their last piece, so that one decoder input has both.
    """
    model = T5ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").train()
    pieces = tiny.tokenizer.pieces(labels)
    shared = next(i for i, (a, b) in enumerate(zip(*pieces, strict=False)) if a != b)
    embeds = torch.cat([prompt_of(tiny), tiny.weights.embedding[list(TEXTS[0])]])[None]
    decoder_ids = torch.tensor([[tiny.architecture.start_id, *pieces[0][:shared]]])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        logits = model(
            inputs_embeds=embeds.expand(draws, -1, -1), decoder_input_ids=decoder_ids.expand(draws, -1)
        ).logits
    margins: Tensor = (logits[:, -1, pieces[0][shared]] - logits[:, -1, pieces[1][shared]]).double()
    return margins


@pytest.mark.slow
def test_a_run_with_dropout_learns_otherwise_and_a_stack_is_still_runs_apart(tiny: Backbone) -> None:
    mixed = [different(epochs=2, dropout=True), different(epochs=2, seed=3), different(epochs=2, seed=5, dropout=True)]
    results = train_stack(tiny, [make_job(tiny, arguments) for arguments in mixed])
    for arguments, result in zip(mixed, results, strict=True):
        assert_same(result, alone(tiny, make_job(tiny, arguments)))
    without = alone(tiny, make_job(tiny, dataclasses.replace(mixed[0], dropout=False)))
    assert np.abs(without.prompt - results[0].prompt).max() > 1e-3


def test_evaluation_is_without_dropout(tiny: Backbone) -> None:
    slot = make_job(tiny, different(epochs=1, dropout=True))
    result = alone(tiny, slot)
    prompt = torch.from_numpy(result.prompt.copy())
    assert (
        slot.selection.measured(predict(tiny, prompt, slot.trie, slot.selection.token_ids), slot.scoring) == result.best
    )
