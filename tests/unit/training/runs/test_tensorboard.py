"""TensorBoard's event files say what the run's own curves say."""

import dataclasses
from pathlib import Path

import pytest
from support.training import QUICK, lines_of, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backbone import Backbone
from training.errors import InvalidArguments
from training.runs import tensorboard
from training.runs.executor import train_runs
from training.runs.plan import RunPlan
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_the_event_files_hold_the_curves_of_the_run(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    arguments = dataclasses.replace(QUICK, epochs=2)
    folder = tmp_path / "run"
    train_runs(tiny, [RunPlan(task=task, arguments=arguments, folder=folder, tensorboard=True)])
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == list(range(1, 19))
    assert [event.value for event in events.Scalars("train/lr")] == pytest.approx([arguments.lr] * 18)
    lines = lines_of(folder)
    for name in ("score", "loss", "accuracy"):
        scalars = events.Scalars(f"selection/{name}")
        assert [(event.step, event.value) for event in scalars] == [
            (line["step"], pytest.approx(line[name])) for line in lines
        ]


def test_a_run_leaves_no_event_files_unasked(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    run(tiny, task, tmp_path / "run", dataclasses.replace(QUICK, epochs=1))
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_without_tensorboard_the_refusal_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InvalidArguments, match=r"install superpos\[tensorboard\]"):
        tensorboard.TensorBoard(tmp_path, lr=0.1)
