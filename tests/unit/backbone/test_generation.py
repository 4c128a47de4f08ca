"""Free greedy generation: the words that `transformers` generates, what counts as a label, and what of the rest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapters import TOPIC, make_adapter
from transformers import T5ForConditionalGeneration

from adapters import TaskSpec
from backbone import Backbone, PackedRow, pack
from training.scoring.confusion import INVALID
from training.scoring.generation import generated_answers, greedy, under_policy
from training.scoring.metrics import measure_answers
from training.task.scoring import Scoring

TEXTS = ["a gripping film", "flat and overlong " * 7, "which city is the capital of France ?", "x"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_packed_batch_generates_what_transformers_generates(tiny: Backbone, tiny_t5: Path, seed: int) -> None:
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5).eval()
    prompt = torch.from_numpy(make_adapter(tiny, seed=seed).prompt.copy())
    texts = tiny.tokenizer.tokenize(TEXTS, max_tokens=64, truncation="end")
    rows = [PackedRow(range(prompt.shape[0]), text.token_ids) for text in texts]
    with torch.inference_mode():
        ours = greedy(tiny, tiny.encode(pack(rows), prompt), len(rows), max_new_tokens=8)
        for text, words in zip(texts, ours, strict=True):
            embeds = torch.cat([prompt[None], model.shared(torch.tensor([text.token_ids]))], dim=1)
            theirs = model.generate(inputs_embeds=embeds, max_new_tokens=8, do_sample=False, use_cache=False)[
                0
            ].tolist()[1:]
            ended = theirs.index(1) if 1 in theirs else len(theirs)
            assert list(words) == theirs[:ended]
    assert any(len(words) > 1 for words in ours)


def test_generated_words_are_a_label_where_they_are_its_words_and_else_invalid(tiny: Backbone) -> None:
    prompt = torch.from_numpy(make_adapter(tiny).prompt.copy())
    texts = [text.token_ids for text in tiny.tokenizer.tokenize(TEXTS, max_tokens=64, truncation="end")]
    assert (generated_answers(tiny, prompt, TOPIC, texts) == INVALID).all()  # an untrained model says anything
    with torch.inference_mode():
        rows = [PackedRow(range(prompt.shape[0]), texts[0])]
        words = greedy(tiny, tiny.encode(pack(rows), prompt), 1, max_new_tokens=3)[0]
    said = tiny.tokenizer.text(words).strip()
    longer = said + " and more of the same"
    spec = TaskSpec(template="{text}", labels={"other": longer, "said": said})
    found = generated_answers(tiny, prompt, spec, texts[:1])
    with torch.inference_mode():
        limit = max(len(pieces) for pieces in tiny.tokenizer.pieces(spec.label_words)) + 1
        whole = greedy(tiny, tiny.encode(pack(rows), prompt), 1, max_new_tokens=limit)[0]
    # the words are the label only where the model ends there
    assert (found[0] == 1) == (tiny.tokenizer.text(whole).strip() == said)


def test_invalid_answers_are_wrong_or_make_the_run_worth_nothing() -> None:
    labels = np.array([0, 1, 1, 0])
    for answers, kept in ((np.array([0, 1, INVALID, 0]), False), (labels, True)):
        metrics = measure_answers(answers, labels, num_labels=2, loss=0.5, scoring=Scoring())
        assert under_policy(metrics, answers, "wrong") == metrics
        zero = under_policy(metrics, answers, "zero_run")
        assert zero.score == zero.accuracy == (1.0 if kept else 0.0)
        assert zero.constants == metrics.constants
    assert metrics.accuracy == 1.0
