"""The training loss: the served distribution's, or the paper's over the whole vocabulary as `transformers` takes it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stack import assert_same, different, make_job
from transformers import T5ForConditionalGeneration

from backbone import Backbone, chain
from backbone.to_transformers import to_transformers
from training.errors import InvalidArguments
from training.loop.batch import PromptBatch
from training.loop.job import TrainingJob, label_losses
from training.loop.objective import row_losses
from training.loop.prompt_run import PromptRun
from training.loop.timing import Timer
from training.loop.train import train_stack
from training.methods import FineTuning

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("world news", "sports", "business", "world science")


def full_job(backbone: Backbone, *, seed: int = 0) -> TrainingJob:
    job = make_job(backbone, different(loss="full", epochs=2, seed=seed, batch_size=8), topic=True)
    return dataclasses.replace(job, label_words=WORDS)


def test_the_full_loss_and_its_gradient_are_those_of_transformers(tiny: Backbone, tiny_t5: Path) -> None:
    job = full_job(tiny)
    batch = PromptRun(job, tiny, Timer()).next_batch()
    losses = row_losses(tiny, batch.rows)
    losses.sum().backward()
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5).eval()
    prompt = job.method.prompt().detach().requires_grad_()
    pieces = tiny.tokenizer.pieces(WORDS)
    longest_in, longest_out = max(len(row.token_ids) for row in batch.rows), max(len(words) for words in pieces) + 1
    embeds, mask, labels = [], [], []
    for row in batch.rows:
        missing = longest_in - len(row.token_ids)
        tokens = model.shared(torch.tensor([*row.token_ids, *[0] * missing]))
        embeds.append(torch.cat([prompt, tokens]))
        mask.append([1] * (len(prompt) + len(row.token_ids)) + [0] * missing)
        target = [*pieces[row.label], tiny.architecture.eos_id]
        labels.append(target + [-100] * (longest_out - len(target)))
    assert len({len(words) for words in pieces}) > 1, "labels of one length would not tell means over tokens from rows"
    theirs = model(
        inputs_embeds=torch.stack(embeds), attention_mask=torch.tensor(mask), labels=torch.tensor(labels)
    ).loss
    theirs.backward()
    assert losses.mean().item() == pytest.approx(theirs.item(), rel=1e-5)
    gradient = torch.stack([row.prompt.grad for row in batch.rows if row.prompt.grad is not None]).mean(0)
    torch.testing.assert_close(gradient, prompt.grad, rtol=1e-3, atol=1e-6)


def test_full_fine_tuning_steps_with_the_mean_gradient_of_its_rows(tiny: Backbone) -> None:
    """A step with a row twice is the step with that row once."""
    gradients = []
    for repeats in (1, 2, 5):
        job = make_job(tiny, different(batch_size=4))
        method = FineTuning(to_transformers(tiny), weight_decay=0.0)
        job = dataclasses.replace(job, method=method)
        batch = PromptBatch(job, np.repeat([3, 5], repeats), label_losses(job, tiny), step=0)
        row_losses(tiny, batch.rows).sum().backward()
        batch.backward()
        (group,) = method.parameter_groups()
        gradients.append([parameter.grad for parameter in group["params"] if parameter.grad is not None])
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 1e-3
    for repeated in gradients[1:]:
        torch.testing.assert_close(repeated, gradients[0], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_losses_of_both_kinds_share_a_stack_and_learn_as_they_would_alone(tiny: Backbone) -> None:
    jobs = [full_job(tiny), make_job(tiny, different(epochs=2)), full_job(tiny, seed=4)]
    results = train_stack(tiny, jobs)
    apart = [full_job(tiny), make_job(tiny, different(epochs=2)), full_job(tiny, seed=4)]
    for job, result in zip(apart, results, strict=True):
        assert_same(result, train_stack(tiny, [job])[0])
    losses = [event.train_loss for event in results[0].evaluations[1:]]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < losses[0]
    assert np.abs(results[0].prompt - results[0].evaluations[0].prompt).max() > 1e-2


def test_a_target_is_its_tokens_and_an_end_of_sequence(tiny: Backbone) -> None:
    target = tiny.target("world news")
    (pieces,) = tiny.tokenizer.pieces(["world news"])
    assert target.edge_tokens == (*pieces, tiny.architecture.eos_id)
    assert target.node_tokens == (tiny.architecture.start_id, *pieces)
    assert chain([5], start_id=0, eos_id=1).node_parents == (-1, 0)


def test_the_full_loss_without_label_words_is_refused(tiny: Backbone) -> None:
    job = dataclasses.replace(full_job(tiny), label_words=())
    with pytest.raises(InvalidArguments, match="loss 'full' was given 0 label words, expected 4"):
        train_stack(tiny, [job])
