"""How a training run ends before its last epoch: by an interrupt, or by numbers that are none."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stack import Broken
from support.training import QUICK, SPEC, easy_rows, lines_of, run
from torch import Tensor, nn

from adapters.files import from_files, read_folder
from backbone import Backbone
from training.data.examples import Example
from training.loop.events import EvalEvent, StepEvent, TrainResult
from training.loop.train import train
from training.methods import ParameterGroup
from training.methods.factory import make_method
from training.runs.executor import Event, train_runs
from training.runs.plan import RunPlan
from training.scoring.evaluation import tokenize_examples
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_an_interrupt_keeps_the_best_so_far(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    def interrupt(number: int, event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 22:
            raise KeyboardInterrupt

    plan = RunPlan(task=task, arguments=QUICK, folder=tmp_path / "run")
    (report,) = train_runs(tiny, [plan], on_event=interrupt)
    assert report.result.stop == "interrupted"
    assert [event.epoch for event in report.result.evaluations] == [0, 1, 2]
    assert report.result.best_epoch in (1, 2)
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert np.array_equal(adapter.prompt, report.result.evaluations[report.result.best_epoch].prompt)
    assert adapter.manifest.provenance.hyperparameters["stop"] == "interrupted"
    assert [line["epoch"] for line in lines_of(tmp_path / "run")] == [0, 1, 2]


def test_an_interrupt_in_the_first_epoch_keeps_the_untrained_prompt(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    def interrupt(number: int, event: Event) -> None:
        if isinstance(event, StepEvent):
            raise KeyboardInterrupt

    plan = RunPlan(task=task, arguments=QUICK, folder=tmp_path / "run")
    (report,) = train_runs(tiny, [plan], on_event=interrupt)
    assert (report.result.stop, report.result.best_epoch) == ("interrupted", 0)
    assert report.trained == report.untrained


def train_spoiled(
    backbone: Backbone, calls: int, *, value: float = math.nan, epochs: int = 5, one_label: bool = False
) -> tuple[TrainResult, list[EvalEvent]]:
    """Train on 36 rows, 3 steps an epoch: each epoch asks for the prompt four times, the untrained one once.

    `one_label` turns the labels around and calls every selection row `business`, then label 0, which the untrained
    prompt answers for none.
    """
    examples = [
        Example(f"text: {row['text']}", ["sports", "business"].index(row["label"]), fields={"text": row["text"]})
        for row in easy_rows(48, seed=3)
    ]
    held_out = [dataclasses.replace(each, label=0 if one_label else each.label) for each in examples[36:]]
    arguments = dataclasses.replace(QUICK, epochs=epochs)
    told: list[EvalEvent] = []
    result = train(
        backbone,
        Broken(make_method(arguments, backbone.weights.embedding), calls, value),
        arguments,
        trie=backbone.label_trie(SPEC.label_words[::-1] if one_label else SPEC.label_words),
        rows=tokenize_examples(backbone, SPEC, examples[:36]),
        selection=tokenize_examples(backbone, SPEC, held_out),
        on_evaluation=told.append,
    )
    return result, told


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_best(tiny: Backbone, value: float) -> None:
    result, epochs = train_spoiled(tiny, 1 + 4 * 2 + 1, value=value)  # in the second step of epoch 3
    assert result.stop == "diverged"
    assert [event.epoch for event in epochs] == [0, 1, 2]
    assert np.isfinite(result.prompt).all()
    assert math.isfinite(result.best.loss)
    assert np.array_equal(result.prompt, epochs[result.best_epoch].prompt)


def test_a_run_that_diverges_in_its_first_step_keeps_the_untrained_prompt(tiny: Backbone) -> None:
    result, epochs = train_spoiled(tiny, 1)
    assert (result.stop, result.best_epoch, len(epochs)) == ("diverged", 0, 1)
    assert np.isfinite(result.prompt).all()


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_prompt_that_is_no_number_at_an_epochs_end_is_never_the_best(tiny: Backbone, epochs: int) -> None:
    # the largest of no numbers is found at label 0, which is right for every selection row here
    result, _ = train_spoiled(tiny, 1 + 3, epochs=epochs, one_label=True)
    assert result.untrained.accuracy < 1
    assert result.stop == "diverged"
    assert np.isfinite(result.prompt).all()
    assert math.isfinite(result.best.loss)


def test_a_rate_far_too_high_still_leaves_an_adapter(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    arguments = dataclasses.replace(QUICK, lr=100, epochs=2)
    report = run(tiny, task, tmp_path / "run", arguments).report
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert adapter.digest == report.adapter.digest
    assert all(math.isfinite(float(str(line["loss"]))) for line in lines_of(tmp_path / "run"))


class Exploding(nn.Module):
    """A prompt that one step at a high rate throws past what a float can hold."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self._exponent = nn.Parameter(torch.zeros(()))
        self._start = start  # [P, H]

    def prompt(self) -> Tensor:
        return self._start * torch.exp(self._exponent.square() * 1e4 + self._exponent * 1e4)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._exponent], "weight_decay": 0.0}]


def test_a_diverging_optimiser_is_noticed_without_help(tiny: Backbone) -> None:
    examples = [Example(f"text: {row['text']}", 0, fields={"text": row["text"]}) for row in easy_rows(24, seed=3)]
    rows = tokenize_examples(tiny, SPEC, examples)
    start = tiny.weights.embedding[3:9].clone()
    result = train(
        tiny,
        Exploding(start),
        dataclasses.replace(QUICK, lr=100.0),
        trie=tiny.label_trie(SPEC.label_words),
        rows=rows,
        selection=rows,
    )
    assert result.stop == "diverged"
    assert np.array_equal(result.prompt, start.numpy())
