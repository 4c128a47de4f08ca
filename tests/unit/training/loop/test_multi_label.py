"""Multi-label jobs in training: the loss, stacks with other jobs, checkpoints, weights, heads."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from support.stack import assert_same, different, make_job
from support.training import TOPICS, topic_rows

from backbone import Backbone, LearnedState, PackedRow, pack
from training.config.arguments import TrainArguments
from training.config.presets import train_arguments
from training.data.balance import decision_weights
from training.data.examples import Example
from training.loop.batch import PromptBatch
from training.loop.checkpoint import Checkpoints
from training.loop.job import TrainingJob, label_losses
from training.loop.objective import row_losses
from training.loop.train import train_stack
from training.methods.factory import start_method
from training.readouts.head import STRENGTHS, fit_heads, frozen_states
from training.readouts.trained import start_readout
from training.scoring.decisions import decide
from training.scoring.evaluation import tokenize_examples
from training.task.scoring import Scoring

STATES: tuple[LearnedState, ...] = ("soft", "pooled", "joint")
SCORING = Scoring(metrics=("micro_f1",), multi_label=True)


def topics_job(backbone: Backbone, arguments: TrainArguments, *, rows: int = 60) -> TrainingJob:
    index = {name: i for i, name in enumerate(TOPICS.label_names)}
    examples = [
        Example(
            f"text: {row['text']}", tuple(sorted(index[x] for x in row["label"])), fields={"text": str(row["text"])}
        )
        for row in topic_rows(rows + 24, seed=arguments.seed)
    ]
    train = tokenize_examples(backbone, TOPICS, examples[:rows])
    return TrainingJob(
        method=start_method(backbone, arguments, ()),
        arguments=arguments,
        trie=backbone.label_trie(TOPICS.label_words),
        readout=start_readout(backbone, arguments, TOPICS, train.labels),
        rows=train,
        selection=tokenize_examples(backbone, TOPICS, examples[rows:]),
        scoring=SCORING,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_a_step_has_the_gradient_of_the_mean_binary_cross_entropy(
    tiny: Backbone, state: LearnedState, weighted: bool
) -> None:
    arguments = different(readout=state, readout_dropout=0.0, label_smoothing=0.1, class_weights=weighted)
    job = topics_job(tiny, arguments)
    rows = np.arange(7)
    batch = PromptBatch(job, rows, label_losses(job, tiny), step=0)
    losses = row_losses(tiny, batch.rows)
    losses.sum().backward()
    batch.backward()
    assert job.readout is not None
    start = job.readout.start
    assert start.activation == "sigmoid"
    vectors, bias = start.vectors.clone().requires_grad_(), start.bias.clone().requires_grad_()
    prompt = job.method.prompt().detach()
    packed = pack([PackedRow(range(len(prompt)), job.rows.token_ids[row]) for row in rows])
    logits = tiny.states(tiny.encode(packed, prompt), state) @ vectors.T + bias
    labels = torch.from_numpy(job.rows.labels[rows]).float()
    balanced = torch.from_numpy(decision_weights(job.rows.labels)).float()
    weight = torch.where(labels == 1, balanced[1], balanced[0]) if weighted else None
    loss = F.binary_cross_entropy_with_logits(logits, labels * 0.9 + 0.05, weight=weight)
    loss.backward()
    assert losses.mean().item() == pytest.approx(loss.item(), abs=1e-6)
    grads = [group["params"][0].grad for group in job.readout.parameter_groups()]
    assert torch.allclose(grads[0], vectors.grad, atol=1e-6)
    assert torch.allclose(grads[1], bias.grad, atol=1e-6)


def test_a_label_starts_at_its_share_of_the_rows(tiny: Backbone) -> None:
    job = topics_job(tiny, different(readout="pooled"))
    assert job.readout is not None
    shares = (job.rows.labels.sum(axis=0) + 0.5) / (len(job.rows) + 1)
    assert np.allclose(job.readout.start.bias.sigmoid().numpy(), shares, atol=1e-6)


def test_soft_vectors_start_as_the_label_words_relative_to_each_other(tiny: Backbone) -> None:
    job = topics_job(tiny, different(readout="soft"))
    assert job.readout is not None
    vectors = job.readout.start.vectors
    assert torch.allclose(vectors.mean(0), torch.zeros(tiny.width), atol=1e-6)
    words = [tiny.weights.head[list(pieces)].mean(0) for pieces in tiny.tokenizer.pieces(TOPICS.label_words)]
    assert torch.allclose(vectors[0] - vectors[1], words[0] - words[1], atol=1e-5)


def test_balanced_decisions_weigh_both_sides_of_a_label_equally() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1]])
    weights = decision_weights(labels)
    assert weights.tolist() == [[4 / 6, 4 / 6, 1.0], [2.0, 2.0, 1.0]]


@pytest.mark.slow
def test_multi_label_jobs_train_in_a_stack_with_others_as_if_alone(tiny: Backbone) -> None:
    def jobs() -> list[TrainingJob]:
        return [
            topics_job(tiny, different(readout="soft", seed=1, epochs=2, readout_dropout=0.2)),
            make_job(tiny, different(seed=2, epochs=2)),
            topics_job(tiny, different(readout="pooled", seed=3, epochs=2, class_weights=True)),
        ]

    together = train_stack(tiny, jobs())
    for ours, job in zip(together, jobs(), strict=True):
        (apart,) = train_stack(tiny, [job])
        assert_same(ours, apart)
        if ours.readout is not None and apart.readout is not None:
            assert ours.readout.activation == apart.readout.activation == "sigmoid"
            assert torch.allclose(ours.readout.vectors, apart.readout.vectors, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(
    tiny: Backbone, state: LearnedState, tmp_path: Path
) -> None:
    arguments = different(readout=state, epochs=3, readout_dropout=0.1)
    left = 8

    def stop(event: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    (whole,) = train_stack(tiny, [topics_job(tiny, arguments)])
    interrupted = dataclasses.replace(topics_job(tiny, arguments), on_step=stop)
    train_stack(tiny, [interrupted], Checkpoints([tmp_path], every_s=0))
    (resumed,) = train_stack(tiny, [topics_job(tiny, arguments)], Checkpoints([tmp_path], every_s=0))
    assert_same(resumed, whole)
    assert resumed.readout is not None
    assert whole.readout is not None
    assert resumed.readout.activation == "sigmoid"
    assert torch.equal(resumed.readout.vectors, whole.readout.vectors)
    assert torch.equal(resumed.readout.bias, whole.readout.bias)


def test_a_head_is_one_vs_rest_logistic_regression_on_the_standardised_states(tiny: Backbone) -> None:
    job = topics_job(tiny, train_arguments({"method": "head"}))
    states = frozen_states(tiny, job.rows.token_ids, "pooled")
    for head, strength in zip(fit_heads(states, job.rows.labels, num_labels=3), STRENGTHS, strict=True):
        model = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=2_000))
        expected = model.fit(StandardScaler().fit_transform(states), job.rows.labels)
        theirs = expected.predict_proba(StandardScaler().fit_transform(states))
        assert np.abs(np.exp(head.log_probs(states)) - theirs).max() <= 1e-3


def test_a_head_gives_a_label_that_no_row_has_to_none_and_one_that_all_have_to_all(tiny: Backbone) -> None:
    job = topics_job(tiny, train_arguments({"method": "head"}))
    states = frozen_states(tiny, job.rows.token_ids, "pooled")
    labels = job.rows.labels.copy()
    labels[:, 0], labels[:, 2] = 0, 1
    for head in fit_heads(states, labels, num_labels=3):
        answers = decide(head.log_probs(states), multi_label=True)
        assert not answers[:, 0].any()
        assert answers[:, 2].all()
