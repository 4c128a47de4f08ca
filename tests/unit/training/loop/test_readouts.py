"""Learned readouts in training: gradients, stacks, checkpoints, heads, and the adapter that comes out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapters import TOPIC, make_adapter
from support.stack import assert_same, different, make_job
from support.training import QUICK, SPEC, easy_task, run

from adapters.files import from_files, read_folder
from adapters.readout import ReadoutKind
from backbone import Backbone, LabelVectors, LearnedState, PackedRow, pack
from service.catalog.adapter_cache import load_adapter
from service.engine.model_runner import ModelRunner
from service.engine.types import Row
from training.config.arguments import TrainArguments
from training.config.presets import train_arguments
from training.errors import InvalidArguments
from training.loop.batch import PromptBatch
from training.loop.checkpoint import Checkpoints
from training.loop.events import StepEvent
from training.loop.job import TrainingJob, label_losses
from training.loop.objective import row_losses
from training.loop.train import train_stack
from training.readouts.head import START_STRENGTH, STRENGTHS, Head, fit_heads, frozen_states
from training.readouts.trained import TrainedReadout, adapter_readout, start_readout
from training.runs.run_result import read_run_result
from training.scoring.adapter_answers import generated
from training.scoring.evaluation import predict

STATES: tuple[LearnedState, ...] = ("soft", "pooled", "joint")


def job_with(backbone: Backbone, readout: ReadoutKind, *, topic: bool = False, **changes: object) -> TrainingJob:
    arguments = different(readout=readout, **changes)
    job = make_job(backbone, arguments, topic=topic)
    spec = TOPIC if topic else SPEC
    readout = start_readout(backbone, arguments, spec, job.rows.labels)
    return dataclasses.replace(job, readout=readout, label_words=spec.label_words)


@pytest.mark.parametrize("state", STATES)
def test_a_step_has_the_gradient_of_the_mean_loss_with_smoothed_labels(tiny: Backbone, state: LearnedState) -> None:
    job = job_with(tiny, state, readout_dropout=0.0, label_smoothing=0.1)
    rows = np.arange(5)
    batch = PromptBatch(job, rows, label_losses(job, tiny), step=0)
    row_losses(tiny, batch.rows).sum().backward()
    batch.backward()
    assert job.readout is not None
    start = job.readout.start
    vectors, bias = start.vectors.clone().requires_grad_(), start.bias.clone().requires_grad_()
    prompt = job.method.prompt().detach()
    packed = pack([PackedRow(range(len(prompt)), job.rows.token_ids[row]) for row in rows])
    scores = tiny.score(tiny.encode(packed, prompt), [LabelVectors(state, vectors, bias)] * len(rows))
    labels = torch.from_numpy(job.rows.labels[rows])
    loss = -0.9 * scores[range(5), labels] - 0.1 * scores.mean(1)
    loss.mean().backward()
    grads = [group["params"][0].grad for group in job.readout.parameter_groups()]
    assert torch.allclose(grads[0], vectors.grad, atol=1e-6)
    assert torch.allclose(grads[1], bias.grad, atol=1e-6)


def test_token_dropout_leaves_out_tokens_but_not_the_last_and_draws_anew_each_step(tiny: Backbone) -> None:
    job = job_with(tiny, "soft", token_dropout=0.5)
    rows = np.arange(12)

    def token_ids(step: int) -> list[tuple[int, ...]]:
        return [row.token_ids for row in PromptBatch(job, rows, label_losses(job, tiny), step=step).rows]

    first = token_ids(0)
    assert first == token_ids(0)
    assert first != token_ids(1)
    whole = [job.rows.token_ids[row] for row in rows]
    assert 0.3 < sum(map(len, first)) / sum(map(len, whole)) < 0.7
    for kept, tokens in zip(first, whole, strict=True):
        left = iter(tokens)
        assert all(token in left for token in kept)
        assert kept[-1] == tokens[-1]


@pytest.mark.parametrize("state", STATES)
def test_a_fitted_start_is_the_head_of_the_initial_prompt(tiny: Backbone, state: LearnedState) -> None:
    job = job_with(tiny, state, max_steps=1, lr=1e-9, readout_lr=1e-9)
    with torch.no_grad():
        prompt = job.method.prompt().detach().clone()
    states = frozen_states(tiny, job.rows.token_ids, state, prompt=prompt)
    (head,) = fit_heads(states, job.rows.labels, num_labels=2, strengths=(START_STRENGTH,))
    train_stack(tiny, [job])
    assert job.readout is not None
    found = head_of(job.readout).log_probs(states)
    assert np.allclose(found, head.log_probs(states), atol=1e-3)
    assert not np.allclose(found, Head(job.readout.start.vectors.numpy(), np.zeros(2, np.float32)).log_probs(states))


def head_of(readout: TrainedReadout) -> Head:
    now = readout.label_vectors
    return Head(now.vectors.numpy(), now.bias.numpy())


@pytest.mark.parametrize(
    ("schedule", "warmup", "shares"),
    [("constant", 0.0, (1, 1)), ("constant", 0.5, (0.5, 1)), ("linear", 0.0, (1, 0.25)), ("linear", 0.5, (0.5, 0.25))],
)
def test_the_rate_rises_over_the_warm_up_and_falls_by_the_schedule(
    tiny: Backbone, schedule: str, warmup: float, shares: tuple[float, float]
) -> None:
    moved: list[float] = []
    job = job_with(tiny, "soft", schedule=schedule, warmup=warmup, max_steps=4, epochs=9, readout_init="words")

    def on_step(event: StepEvent) -> None:
        assert job.readout is not None
        bias = job.readout.label_vectors.bias.clone()
        moved.append(float((bias - before[-1]).abs().max()))
        before.append(bias)

    assert job.readout is not None
    before = [job.readout.start.bias]
    train_stack(tiny, [dataclasses.replace(job, on_step=on_step)])
    # the first step of AdamW moves a parameter without decay by its rate
    assert moved[0] == pytest.approx(job.arguments.readout_lr * shares[0], rel=1e-3)
    assert moved[3] <= 1.01 * job.arguments.readout_lr * shares[1]
    assert len(moved) == 4


@pytest.mark.slow
def test_jobs_of_all_readouts_train_in_one_stack_as_if_alone(tiny: Backbone) -> None:
    def jobs() -> list[TrainingJob]:
        return [
            job_with(tiny, "words", seed=1, epochs=2),
            job_with(tiny, "soft", seed=2, epochs=2, readout_dropout=0.2),
            job_with(tiny, "pooled", seed=3, epochs=2, topic=True),
            job_with(tiny, "soft", seed=4, epochs=2, topic=True, label_smoothing=0.1, token_dropout=0.2),
            job_with(tiny, "joint", seed=5, epochs=2, readout_dropout=0.2),
        ]

    together = train_stack(tiny, jobs())
    for ours, job in zip(together, jobs(), strict=True):
        (apart,) = train_stack(tiny, [job])
        assert_same(ours, apart)
        assert (ours.readout is None) == (job.readout is None)
        if ours.readout is not None and apart.readout is not None:
            assert torch.allclose(ours.readout.vectors, apart.readout.vectors, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(
    tiny: Backbone, state: LearnedState, tmp_path: Path
) -> None:
    def interrupted_after(steps: int) -> TrainingJob:
        def stop(event: object) -> None:
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise KeyboardInterrupt

        return dataclasses.replace(job_with(tiny, state, epochs=3, readout_dropout=0.1), on_step=stop)

    (whole,) = train_stack(tiny, [job_with(tiny, state, epochs=3, readout_dropout=0.1)])
    train_stack(tiny, [interrupted_after(8)], Checkpoints([tmp_path], every_s=0))
    (resumed,) = train_stack(
        tiny, [job_with(tiny, state, epochs=3, readout_dropout=0.1)], Checkpoints([tmp_path], every_s=0)
    )
    assert_same(resumed, whole)
    assert resumed.readout is not None
    assert whole.readout is not None
    assert torch.equal(resumed.readout.vectors, whole.readout.vectors)
    assert torch.equal(resumed.readout.bias, whole.readout.bias)


ARGUMENTS: dict[str, TrainArguments] = {
    "soft": dataclasses.replace(QUICK, readout="soft", epochs=8),
    "pooled": dataclasses.replace(QUICK, readout="pooled", epochs=8),
    "joint": dataclasses.replace(QUICK, readout="joint", epochs=8),
    "head": train_arguments({"method": "head"}),
    "soft head": train_arguments({"method": "head", "readout": "soft"}),
    "joint head": train_arguments({"method": "head", "readout": "joint"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARGUMENTS)
def test_a_run_exports_an_adapter_that_serving_answers_with_the_same_scores(
    tiny: Backbone, kind: str, tmp_path: Path
) -> None:
    arguments = ARGUMENTS[kind]
    done = run(tiny, easy_task(tmp_path), tmp_path / "run", arguments)
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert done.report.adapter is not None
    assert adapter.digest == done.report.adapter.digest
    assert adapter.manifest.readout == arguments.readout
    assert adapter.num_virtual_tokens == (0 if arguments.method == "head" else arguments.num_virtual_tokens)
    assert done.report.trained.accuracy > done.report.untrained.accuracy
    assert done.report.trained.accuracy >= 0.9
    assert read_run_result(tmp_path / "run").best_step > 0
    rows = done.report.rows.report
    prompt = torch.from_numpy(adapter.prompt.copy())
    ours = predict(tiny, prompt, adapter_readout(tiny, adapter), rows.token_ids)
    assert np.allclose(ours, done.report.measured.log_probs, atol=1e-5)
    served = ModelRunner(tiny, prompt_table_bytes=1)(
        [Row(load_adapter(adapter, tiny), ids, deadline=1e9) for ids in rows.token_ids[:20]]
    )
    for scores, expected in zip(served, ours, strict=False):
        assert isinstance(scores, np.ndarray)
        assert np.abs(scores - expected).max() <= 1e-5
    described = json.loads((tmp_path / "run" / "run.json").read_text())["arguments"]
    assert described["readout"] == arguments.readout


def test_a_head_is_the_same_for_every_seed_and_knows_labels_without_rows(tiny: Backbone) -> None:
    job = make_job(tiny, QUICK)
    states = frozen_states(tiny, job.rows.token_ids, "pooled")
    heads = fit_heads(states, job.rows.labels, num_labels=3)
    assert len(heads) == len(STRENGTHS)
    for head in heads:
        log_probs = head.log_probs(states)
        assert log_probs.shape == (len(states), 3)
        assert (log_probs[:, 2] < -20).all()
        assert (log_probs.argmax(1) == job.rows.labels).mean() >= 0.8
    one = fit_heads(states[:4], np.ones(4, dtype=np.int64), num_labels=2)[0]
    assert (one.log_probs(states[:4]).argmax(1) == 1).all()


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({"readout_lr": 0.1}, "readout 'words' does not use it"),
        ({"method": "head", "lr": 0.1}, "method 'head' does not use it"),
        ({"method": "head", "readout": "words"}, "expected soft, pooled or joint"),
        ({"method": "full", "readout": "soft"}, "expected words"),
        ({"readout": "soft", "loss": "full"}, "needs the readout 'words'"),
        ({"readout": "mean"}, "expected one of words, soft, pooled, joint"),
        ({"readout": "soft", "readout_dropout": 1.0}, "0 and below 1"),
        ({"readout": "soft", "label_smoothing": -0.1}, "at least 0"),
    ],
)
def test_arguments_of_a_readout_that_do_not_fit_are_refused(explicit: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        train_arguments(explicit)


def test_free_generation_with_a_learned_readout_is_refused(tiny: Backbone) -> None:
    adapter = make_adapter(tiny, readout="soft")
    rows = make_job(tiny, QUICK).rows
    with pytest.raises(InvalidArguments, match="free generation needs the readout 'words', the adapter has 'soft'"):
        generated(tiny, adapter, rows)
