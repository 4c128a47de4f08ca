"""Heads that are fitted to few rows: which regularisation, which rows, which figures; and what a checkpoint keeps."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.stack import different, make_job
from support.training import SPEC

from backbone import Backbone, LearnedState
from training.config.presets import train_arguments
from training.loop.checkpoint import Checkpoints
from training.loop.head_fit import num_candidates
from training.loop.job import TrainingJob
from training.loop.prompt_run_state import read_state
from training.loop.train import train_stack
from training.methods.factory import start_method
from training.readouts.candidates import head_families
from training.readouts.head import FEW_ROWS_STRENGTHS, STRENGTHS, WORD_SHARES, fit_heads, frozen_states
from training.readouts.trained import start_readout
from training.sweeping.folder import read_result, write_result
from training.task.scoring import ACCURACY

pytestmark = pytest.mark.usefixtures("one_thread")


def head_job(backbone: Backbone, *, folds: int | None = 4, readout: str = "pooled") -> TrainingJob:
    """60 training and 24 selection rows, dealt to folds by turns."""
    arguments = train_arguments({"method": "head", "readout": readout})
    job = make_job(backbone, different())
    return dataclasses.replace(
        job,
        arguments=arguments,
        method=start_method(backbone, arguments, ()),
        readout=start_readout(backbone, arguments, SPEC, job.rows.labels),
        folds=None if folds is None else np.arange(84) % folds,
    )


def test_the_out_of_fold_loss_chooses_and_the_head_is_fitted_to_all_rows(tiny: Backbone) -> None:
    job = head_job(tiny)
    (result,) = train_stack(tiny, [job])
    states = frozen_states(tiny, job.all_rows.token_ids, "pooled")
    labels = job.all_rows.labels
    losses = {}
    for strength in FEW_ROWS_STRENGTHS[: len(result.evaluations) - 1]:
        log_probs = np.empty((84, 2), dtype=np.float32)
        for fold in range(4):
            inside = job.folds == fold
            (head,) = fit_heads(states[~inside], labels[~inside], num_labels=2, strengths=[strength])
            log_probs[inside] = head.log_probs(states[inside])
        losses[strength] = float(-log_probs[np.arange(84), labels].mean())
    assert [event.metrics.loss for event in result.evaluations[1:]] == pytest.approx(list(losses.values()), abs=1e-4)
    assert all(event.is_out_of_fold for event in result.evaluations)
    best = min(losses, key=lambda strength: losses[strength])
    assert FEW_ROWS_STRENGTHS[result.best_index - 1] == best
    (whole,) = fit_heads(states, labels, num_labels=2, strengths=[best])
    assert result.readout is not None
    assert torch.allclose(result.readout.vectors, torch.from_numpy(whole.vectors), atol=1e-4)
    assert result.out_of_fold is not None
    assert np.array_equal(result.out_of_fold.rows, np.arange(84))
    assert result.timing.rows == 84 * len(losses)


@pytest.mark.parametrize("state", ["soft", "joint"])
def test_the_start_is_scored_on_the_rows_that_score_the_fits(tiny: Backbone, state: LearnedState) -> None:
    job = head_job(tiny, readout=state)
    assert job.readout is not None
    states = frozen_states(tiny, job.all_rows.token_ids, state)
    log_probs = job.readout.start.log_probs(torch.from_numpy(states)).numpy()
    losses = -log_probs[np.arange(84), job.all_rows.labels]
    lucky = int(np.argmin(losses))  # a single selection row that the label words answer well
    rest = np.delete(np.arange(84), lucky)
    assert job.folds is not None
    job = dataclasses.replace(
        job,
        rows=job.all_rows.at(rest),
        selection=job.all_rows.at(np.array([lucky])),
        folds=job.folds[np.append(rest, lucky)],
    )
    (result,) = train_stack(tiny, [job])
    assert result.evaluations[0].metrics.loss == pytest.approx(float(losses.mean()), abs=1e-5)
    assert result.best_index > 0


def drawn(*, num_labels: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return states [30, 6] whose columns differ in scale, labels, and vectors to pull towards [K, 6]."""
    random = np.random.default_rng(num_labels)
    states = (random.normal(size=(30, 6)) * np.arange(1, 7) + 3).astype(np.float32)
    return states, np.arange(30) % num_labels, random.normal(size=(num_labels, 6)).astype(np.float32)


@pytest.mark.parametrize("num_labels", [2, 5])
@pytest.mark.parametrize("strength", [0.002, 2.0])
def test_a_pulled_head_has_the_least_loss_of_its_equation(num_labels: int, strength: float) -> None:
    """C·Σ cross-entropy + ½ Σ (scale · (vectors − towards))², whose gradient is zero at the minimum."""
    states, labels, towards = drawn(num_labels=num_labels)
    (head,) = fit_heads(states, labels, num_labels=num_labels, strengths=[strength], towards=towards)
    vectors = torch.from_numpy(head.vectors).double().requires_grad_()
    bias = torch.from_numpy(head.bias).double().requires_grad_()
    logits = torch.from_numpy(states).double() @ vectors.T + bias
    entropy = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    scale = torch.from_numpy(states.std(axis=0, dtype=np.float64))
    loss = strength * entropy + 0.5 * (scale * (vectors - torch.from_numpy(towards))).square().sum()
    loss.backward()
    assert vectors.grad is not None
    assert bias.grad is not None
    for gradient in (vectors.grad / scale, bias.grad):
        assert gradient.abs().max() < 0.02 * strength * len(states)


def test_a_head_that_is_pulled_towards_zero_is_that_of_scikit_learn() -> None:
    states, labels, towards = drawn(num_labels=5)
    (known,) = fit_heads(states, labels, num_labels=5, strengths=[0.2])
    (pulled,) = fit_heads(states, labels, num_labels=5, strengths=[0.2], towards=np.zeros_like(towards))
    assert pulled.log_probs(states) == pytest.approx(known.log_probs(states), abs=5e-3)


def test_a_strong_pull_keeps_the_vectors_and_fits_the_offsets() -> None:
    states, labels, towards = drawn(num_labels=3)
    (head,) = fit_heads(states, labels, num_labels=3, strengths=[1e-9], towards=towards)
    assert head.vectors == pytest.approx(towards, abs=1e-5)


def test_a_label_without_rows_is_never_predicted_however_its_words_score() -> None:
    states, labels, towards = drawn(num_labels=4)
    towards[3] += 100
    kept = labels != 3
    (head,) = fit_heads(states[kept], labels[kept], num_labels=4, strengths=[0.2], towards=towards)
    assert head.log_probs(states)[:, 3].max() < -10


@pytest.mark.parametrize("state", ["soft", "joint"])
def test_heads_on_the_decoder_are_also_pulled_towards_the_label_words_where_rows_are_few(
    tiny: Backbone, state: LearnedState
) -> None:
    num_strengths, num_shares = len(FEW_ROWS_STRENGTHS), len(WORD_SHARES)
    job = head_job(tiny, readout=state)
    assert num_candidates(job) == num_strengths * (1 + num_shares)
    assert num_candidates(head_job(tiny, readout="pooled")) == num_strengths
    assert num_candidates(head_job(tiny, readout=state, folds=None)) == len(STRENGTHS)

    assert job.readout is not None
    words, labels = job.readout.start.vectors.numpy(), job.rows.labels
    states = frozen_states(tiny, job.rows.token_ids, state)
    families = head_families(2, ACCURACY, are_few=True, word_vectors=words)
    pulls = (None, *(share * words for share in WORD_SHARES))
    for family, towards in zip(families, pulls, strict=True):
        found = [fit(states, labels).vectors for fit in family.values()]
        expected = fit_heads(states, labels, num_labels=2, strengths=FEW_ROWS_STRENGTHS, towards=towards)
        assert np.array_equal(np.stack(found), np.stack([head.vectors for head in expected]))


def test_a_joint_readout_starts_at_the_label_words_on_the_decoder_and_at_zero_on_the_encoder(tiny: Backbone) -> None:
    soft, joint = (head_job(tiny, readout=each).readout for each in ("soft", "joint"))
    assert soft is not None
    assert joint is not None
    assert torch.equal(joint.start.vectors[:, : tiny.width], soft.start.vectors)
    assert not joint.start.vectors[:, tiny.width :].any()


def test_the_best_of_all_candidates_out_of_fold_is_kept(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [head_job(tiny, readout="soft")])
    losses = [event.metrics.loss for event in result.evaluations[1:]]
    assert len(losses) > len(FEW_ROWS_STRENGTHS)
    assert result.best_index - 1 == int(np.argmin(losses))


def test_the_selection_rows_choose_without_folds_and_are_not_fitted(tiny: Backbone) -> None:
    job = head_job(tiny, folds=None)
    (result,) = train_stack(tiny, [job])
    assert result.out_of_fold is None
    assert not any(event.is_out_of_fold for event in result.evaluations)
    assert result.timing.rows == 60 * 3


@pytest.mark.slow
def test_a_checkpoint_keeps_the_predictions_of_a_head_whose_stack_goes_on(tiny: Backbone, tmp_path: Path) -> None:
    folders = [tmp_path / "head", tmp_path / "prompt"]
    for folder in folders:
        folder.mkdir()

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    prompt = dataclasses.replace(make_job(tiny, different(epochs=1)), on_step=stop)
    (head, _) = train_stack(tiny, [head_job(tiny), prompt], Checkpoints(folders, every_s=0))
    (resumed, _) = train_stack(
        tiny, [head_job(tiny), make_job(tiny, different(epochs=1))], Checkpoints(folders, every_s=0)
    )
    for found in (resumed.out_of_fold, read_state(next(folders[0].glob("checkpoint-*"))).out_of_fold):
        assert head.out_of_fold is not None
        assert found is not None
        assert np.array_equal(found.rows, head.out_of_fold.rows)
        assert np.array_equal(found.log_probs, head.out_of_fold.log_probs)
        assert found.num_folds == head.out_of_fold.num_folds == 4


def test_the_result_of_a_trial_keeps_the_predictions(tiny: Backbone, tmp_path: Path) -> None:
    (result,) = train_stack(tiny, [head_job(tiny)])
    write_result(tmp_path, result)
    read = read_result(tmp_path)
    assert read is not None
    assert read.best == result.best
    assert read.out_of_fold is not None
    assert result.out_of_fold is not None
    assert np.array_equal(read.out_of_fold.log_probs, result.out_of_fold.log_probs)
    assert [event.is_out_of_fold for event in read.evaluations] == [
        event.is_out_of_fold for event in result.evaluations
    ]
