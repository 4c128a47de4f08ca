"""Heads that are fitted to few rows: which regularisation, which rows, which figures; and what a checkpoint keeps."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stack import different, make_job
from support.training import SPEC

from backbone import Backbone
from training.config.presets import train_arguments
from training.loop.checkpoint import Checkpoints
from training.loop.job import TrainingJob
from training.loop.prompt_run_state import read_state
from training.loop.train import train_stack
from training.methods.factory import start_method
from training.readouts.head import FEW_ROWS_STRENGTHS, fit_heads, frozen_states
from training.readouts.trained import start_readout
from training.sweeping.folder import read_result, write_result

pytestmark = pytest.mark.usefixtures("one_thread")


def head_job(backbone: Backbone, *, folds: int | None = 4) -> TrainingJob:
    """60 training and 24 selection rows, dealt to folds by turns."""
    arguments = train_arguments({"method": "head"})
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
    assert [event.is_out_of_fold for event in result.evaluations] == [False] + [True] * len(losses)
    best = min(losses, key=lambda strength: losses[strength])
    assert FEW_ROWS_STRENGTHS[result.best_index - 1] == best
    (whole,) = fit_heads(states, labels, num_labels=2, strengths=[best])
    assert result.readout is not None
    assert torch.allclose(result.readout.vectors, torch.from_numpy(whole.vectors), atol=1e-4)
    assert result.out_of_fold is not None
    assert np.array_equal(result.out_of_fold.rows, np.arange(84))
    assert result.timing.rows == 84 * len(losses)


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
