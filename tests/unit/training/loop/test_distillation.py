"""Learning from a frozen prompt: the losses of MPT and PANDA written out, and a stack that is as many runs apart."""

import dataclasses

import numpy as np
import pytest
import torch
from support.stack import alone, assert_same, different, make_job
from torch import Tensor

from backbone import Backbone, PackedRow, pack
from training.loop.batch import PromptBatch
from training.loop.distillation import Teacher
from training.loop.job import TrainingJob, label_losses
from training.loop.objective import row_losses
from training.loop.train import train_stack

pytestmark = pytest.mark.usefixtures("one_thread")

SIMPLE = different(method="simple", lr=0.3, epochs=2)


def teacher(backbone: Backbone, *, length: int = 6, weight: float = 0.7, loss: str = "mpt") -> Teacher:
    prompt = torch.randn(length, backbone.width, generator=torch.Generator().manual_seed(2))
    return Teacher(prompt, weight, loss)  # type: ignore[arg-type]


def taught(job: TrainingJob, given: Teacher) -> TrainingJob:
    return dataclasses.replace(job, teacher=given)


def forward(
    backbone: Backbone, prompt: Tensor, ids: tuple[int, ...], job: TrainingJob
) -> tuple[Tensor, Tensor, Tensor]:
    """Label log-probabilities [K], the text's states in the encoder [T, H], and the decoder's first state [H]."""
    with torch.no_grad():
        encoded = backbone.encode(pack([PackedRow(range(len(prompt)), ids)]), prompt)
        hidden = encoded.hidden[len(prompt) :] * backbone.weights.encoder_norm
        return backbone.score(encoded, [job.trie])[0], hidden, backbone.states(encoded, "soft")[0]


@pytest.mark.parametrize("length", [6, 3])
def test_mpt_adds_the_divergence_from_the_teacher_and_the_distance_of_the_states(tiny: Backbone, length: int) -> None:
    given = teacher(tiny, length=length)
    job = taught(make_job(tiny, SIMPLE), given)
    batch = PromptBatch(job, np.arange(5), label_losses(job, tiny), step=0)
    losses = row_losses(tiny, batch.rows)
    for row, loss in zip(batch.rows, losses.tolist(), strict=True):
        scores, hidden, state = forward(tiny, row.prompt.detach(), row.token_ids, job)
        answers, their_hidden, their_state = forward(tiny, given.prompt, row.token_ids, job)
        divergence = sum(answers[k].exp() * (answers[k] - scores[k]) for k in range(len(scores)))
        distance = ((hidden - their_hidden) ** 2).mean() + ((state - their_state) ** 2).mean()
        assert row.label is not None
        expected = -scores[row.label] + 0.7 * (divergence + distance)
        assert loss == pytest.approx(float(expected), rel=1e-4)


def test_panda_adds_the_squared_distance_of_the_logits(tiny: Backbone) -> None:
    given = teacher(tiny, loss="panda")
    job = taught(make_job(tiny, SIMPLE), given)
    batch = PromptBatch(job, np.arange(5), label_losses(job, tiny), step=0)
    for row, loss in zip(batch.rows, row_losses(tiny, batch.rows).tolist(), strict=True):
        scores, _, _ = forward(tiny, row.prompt.detach(), row.token_ids, job)
        answers, _, _ = forward(tiny, given.prompt, row.token_ids, job)
        assert row.label is not None
        expected = -scores[row.label] + 0.7 * ((scores - answers) ** 2).mean()
        assert loss == pytest.approx(float(expected), rel=1e-4)


def test_the_whole_vocabularys_loss_is_taught_too(tiny: Backbone) -> None:
    job = dataclasses.replace(
        make_job(tiny, different(method="simple", loss="full")), label_words=("sports", "business")
    )
    without = PromptBatch(job, np.arange(4), label_losses(job, tiny), step=0)
    plain = row_losses(tiny, without.rows)
    taught_job = taught(job, teacher(tiny, loss="panda"))
    batch = PromptBatch(taught_job, np.arange(4), label_losses(job, tiny), step=0)
    assert (row_losses(tiny, batch.rows) > plain).all()


def test_a_teacher_of_no_weight_changes_nothing_that_is_learnt(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [taught(make_job(tiny, SIMPLE), teacher(tiny, weight=0.0))])
    assert_same(result, alone(tiny, make_job(tiny, SIMPLE)))


@pytest.mark.slow
def test_a_stack_of_pupils_of_other_teachers_is_as_many_runs_apart(tiny: Backbone) -> None:
    def jobs() -> list[TrainingJob]:
        return [
            taught(make_job(tiny, SIMPLE), teacher(tiny)),
            make_job(tiny, dataclasses.replace(SIMPLE, seed=5)),
            taught(
                make_job(tiny, dataclasses.replace(SIMPLE, seed=3, lr=0.1), topic=True),
                teacher(tiny, length=2, loss="panda"),
            ),
        ]

    together = train_stack(tiny, jobs())
    for job, result in zip(jobs(), together, strict=True):
        (apart,) = train_stack(tiny, [job])
        assert np.abs(result.evaluations[-1].prompt - result.evaluations[0].prompt).max() > 1e-2, "nothing was learnt"
        assert_same(result, apart)


def test_a_pupil_comes_nearer_to_its_teachers_answers(tiny: Backbone) -> None:
    given = teacher(tiny, weight=20.0, loss="panda")

    def distance(prompt: Tensor, job: TrainingJob) -> float:
        ids = job.rows.token_ids[:8]
        pairs = [(forward(tiny, prompt, row, job)[0], forward(tiny, given.prompt, row, job)[0]) for row in ids]
        return float(np.mean([float((ours - theirs).square().mean()) for ours, theirs in pairs]))

    job = make_job(tiny, dataclasses.replace(SIMPLE, lr=0.05))
    last = [
        torch.from_numpy(result.evaluations[-1].prompt.copy())
        for result in train_stack(tiny, [taught(job, given), make_job(tiny, dataclasses.replace(SIMPLE, lr=0.05))])
    ]
    assert distance(last[0], job) < distance(last[1], job) / 2
