"""Training runs on a tiny T5: what they change, what they tell, and what they refuse."""

import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapters import SENTIMENT
from support.training import QUICK, SPEC, Finished, easy_rows, run, write_rows
from torch import Tensor

from adapters import TaskSpec
from adapters.files import read_folder
from backbone import Backbone, InvalidLabels
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments, InvalidData
from training.methods import MethodName
from training.runs.folder import RunFolder
from training.runs.plan import RunPlan
from training.runs.run import prepare
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


# --- what a run changes


@pytest.mark.slow
def test_training_changes_no_tensor_of_the_backbone(
    tiny: Backbone, untouched: dict[str, Tensor], finished: Finished
) -> None:
    after = tiny.weights.tensors()
    assert finished.report.result.best_epoch > 0
    assert after.keys() == untouched.keys()
    assert len(after) > 30
    for name, tensor in after.items():
        assert torch.equal(tensor, untouched[name]), name
        assert not tensor.requires_grad, name
        assert tensor.grad is None, name


@pytest.mark.slow
def test_training_lowers_the_loss_and_beats_the_untrained_prompt(finished: Finished) -> None:
    report = finished.report
    assert report.result.stop == "finished"
    assert report.trained.accuracy >= max(0.9, report.untrained.accuracy + 0.2)
    assert report.trained.accuracy > report.trained.constants["accuracy"]
    assert report.trained.loss < report.untrained.loss / 2
    assert not report.trained.collapsed
    losses = [event.train_loss for event in finished.epochs]
    assert losses[0] is None
    assert losses[-1] is not None
    assert losses[1] is not None
    assert losses[-1] < losses[1] / 2


@pytest.mark.parametrize(("method", "lr"), [("superpos", 0.05), ("simple", 1.0)])
@pytest.mark.slow
def test_other_methods_and_bases_learn_too(
    tiny: Backbone, task: TaskFile, tmp_path: Path, method: MethodName, lr: float
) -> None:
    arguments = dataclasses.replace(QUICK, method=method, basis="shared", lr=lr, epochs=12)
    report = run(tiny, task, tmp_path / "run", arguments).report
    assert report.trained.accuracy > report.untrained.accuracy + 0.2
    provenance = report.adapter.manifest.provenance
    assert provenance.method == method
    assert ("basis" in provenance.hyperparameters) == (method == "superpos")
    assert len(provenance.sampled_token_ids) == (32 if method == "superpos" else 6)


# --- seeds


@pytest.mark.slow
def test_one_seed_gives_one_digest_and_another_seed_another(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    quick = dataclasses.replace(QUICK, epochs=1)
    other = dataclasses.replace(quick, seed=1)
    first, again, third = (
        run(tiny, task, tmp_path / f"run{number}", arguments).report
        for number, arguments in enumerate((quick, quick, other))
    )
    assert first.adapter.digest == again.adapter.digest
    assert np.array_equal(first.adapter.prompt, again.adapter.prompt)
    assert read_folder(first.folder / "adapter") == read_folder(again.folder / "adapter")
    assert first.adapter.digest != third.adapter.digest
    assert not np.array_equal(first.adapter.prompt, third.adapter.prompt)


def test_the_global_random_state_neither_matters_nor_moves(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    quick = dataclasses.replace(QUICK, epochs=1)
    digests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), random.getstate()
        digests.append(run(tiny, task, tmp_path / f"run{seed}", quick, limit=24).report.adapter.digest)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
    assert digests[0] == digests[1]


# --- what a run tells


def test_steps_are_told_in_order_with_their_rows(finished: Finished) -> None:
    assert [event.step for event in finished.steps] == list(range(1, 37))
    assert {event.num_steps for event in finished.steps} == {36}
    assert [event.epoch for event in finished.steps] == sorted([1, 2, 3, 4] * 9)
    assert all(sum(e.rows for e in finished.steps if e.epoch == epoch) == 108 for epoch in (1, 2, 3, 4))
    assert [event.epoch for event in finished.epochs] == [0, 1, 2, 3, 4]


def test_the_last_batch_of_an_epoch_may_be_smaller_but_no_row_is_dropped(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    arguments = dataclasses.replace(QUICK, epochs=1, batch_size=16)
    steps = run(tiny, task, tmp_path / "run", arguments, limit=37).steps
    assert [event.rows for event in steps] == [16, 16, 5]
    assert {event.num_steps for event in steps} == {3}


def test_rows_that_are_cut_are_counted(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    short = SPEC.model_copy(update={"max_tokens": 12})
    arguments = dataclasses.replace(QUICK, epochs=1)
    report = run(tiny, task.model_copy(update={"spec": short}), tmp_path / "run", arguments, limit=24).report
    assert report.rows.train.num_truncated == 24


# --- refusals


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens is 0, expected 1 to 100"),
        ({"num_virtual_tokens": 101}, "num_virtual_tokens is 101, expected 1 to 100"),
        ({"num_sampled_tokens": 0}, "num_sampled_tokens is 0, expected 1 to 31997"),
        ({"num_sampled_tokens": 31_998}, "num_sampled_tokens is 31998, expected 1 to 31997"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 4_097}, "batch_size is 4097"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"lr": 101.0}, "lr is 101.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, f"seed is {2**64}"),
    ],
)
def test_an_argument_outside_its_range_is_refused_with_its_value(changes: dict[str, float], expected: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        TrainArguments(**changes)
    assert str(caught.value).startswith(expected)


def test_the_ends_of_each_range_are_allowed() -> None:
    TrainArguments(num_virtual_tokens=1, num_sampled_tokens=1, epochs=1, batch_size=1, lr=1e-9)
    TrainArguments(num_virtual_tokens=100, num_sampled_tokens=31_997, batch_size=4_096, lr=100)


def plan_of(task: TaskFile, folder: Path) -> RunPlan:
    return RunPlan(task=task, arguments=QUICK, folder=folder)


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused_before_a_run_begins(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    same = SENTIMENT.model_copy(
        update={"template": "{text}", "labels": TaskSpec(template="{t}", labels={"a": "\u4e00", "b": "\u4e8c"}).labels}
    )
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InvalidLabels):
        prepare(tiny, plan_of(task.model_copy(update={"spec": same}), folder.path), folder)
    assert not (tmp_path / "run").exists()


def test_bad_rows_are_refused_before_anything_is_written(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    write_rows(Path(task.data.train), [*easy_rows(20, seed=1), {"text": "a", "label": "world"}])
    with pytest.raises(InvalidData, match="line 21"):
        prepare(tiny, plan_of(task, tmp_path / "run"), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    RunFolder(tmp_path / "run")
