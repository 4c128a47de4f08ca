"""Methods that start from others, and weights in a network of their own, in a stack and after an interruption.

Each comes to what it would have come to alone.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.adapters import make_adapter
from support.stack import assert_same
from support.training import QUICK, SPEC, curves

from adapters.files import to_files, write_folder
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.loop.checkpoint import Checkpoints, generations
from training.loop.events import StepEvent, TrainResult
from training.loop.train import train_stack
from training.methods.prior import Prior
from training.runs.folder import RunFolder
from training.runs.plan import RunPlan
from training.runs.run import TrainingEvent, begin, prepare
from training.task.task_file import TaskFile

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

LENGTH = QUICK.num_virtual_tokens


@pytest.fixture(scope="module")
def stack(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> list[TrainArguments]:
    """Arguments of each method, with what it starts from."""
    folder = tmp_path_factory.mktemp("starts")
    generator = torch.Generator().manual_seed(1)
    width, fingerprint = tiny.width, tiny.identity.fingerprint
    shapes = {"inner": (7, 3), "inner_bias": (7,), "outer": (LENGTH, width, 7), "outer_bias": (LENGTH, width)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    Prior("subspace", drawn, fingerprint, ()).write(folder / "subspace")
    shared = {
        "shared": torch.randn(LENGTH, width, generator=generator),
        "column": torch.ones(LENGTH),
        "row": torch.ones(width),
    }
    Prior("shared", shared, fingerprint, ()).write(folder / "shared")
    for seed in (1, 2):
        adapter = make_adapter(tiny, SPEC, seed=seed, num_virtual_tokens=LENGTH)
        write_folder(folder / f"adapter{seed}", to_files(adapter))
    quick = dataclasses.replace(QUICK, epochs=2)

    def start(*names: str) -> tuple[str, ...]:
        return tuple(str(folder / name) for name in names)

    return [
        dataclasses.replace(quick, method="mpt", lr=0.03, factor_lr=0.05, sources=start("shared")),
        dataclasses.replace(quick, method="ipt", lr=0.1, seed=2, sources=start("subspace")),
        dataclasses.replace(quick, method="panda", lr=0.1, distillation=2.0, sources=start("adapter1")),
        dataclasses.replace(quick, method="panda", lr=0.1, seed=4, sources=start("adapter1", "adapter2")),
        dataclasses.replace(quick, method="spot", lr=0.1, sources=start("adapter1")),
        dataclasses.replace(quick, method="mixture", lr=0.03, sources=start("adapter1", "adapter2")),
        dataclasses.replace(quick, method="lora", lr=0.03, rank=2, dropout=True),
        dataclasses.replace(quick, method="houlsby", lr=0.01, bottleneck=4),
    ]


def trained(
    backbone: Backbone,
    task: TaskFile,
    folder: Path,
    stack: list[TrainArguments],
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
) -> list[TrainResult]:
    """Train a stack in run folders, with a checkpoint after every step."""
    runs = []
    for number, arguments in enumerate(stack):
        plan = RunPlan(task=task, arguments=arguments, folder=folder / str(number), limit=48)
        prepared = prepare(backbone, plan, RunFolder(plan.folder, resume=True))
        runs.append(begin(backbone, prepared, on_event=on_event))
    checkpoints = Checkpoints([run.folder.path for run in runs], every_s=0)
    return train_stack(backbone, [run.job for run in runs], checkpoints)


def test_a_stack_of_them_is_as_many_runs_apart(
    tiny: Backbone, task: TaskFile, tmp_path: Path, stack: list[TrainArguments]
) -> None:
    together = trained(tiny, task, tmp_path / "together", stack)
    for number, (arguments, result) in enumerate(zip(stack, together, strict=True)):
        (apart,) = trained(tiny, task, tmp_path / f"apart{number}", [arguments])
        assert result.evaluations[-1].metrics.loss != result.evaluations[0].metrics.loss, "nothing was learnt"
        assert_same(result, apart)


def test_they_resume_on_the_same_curve_to_the_last_digit(
    tiny: Backbone, task: TaskFile, tmp_path: Path, stack: list[TrainArguments]
) -> None:
    def interrupt(event: TrainingEvent) -> None:
        if isinstance(event, StepEvent) and event.step == 5:
            raise KeyboardInterrupt

    whole = trained(tiny, task, tmp_path / "whole", stack)
    broken = trained(tiny, task, tmp_path / "broken", stack, interrupt)
    assert {result.stop for result in broken} == {"interrupted"}
    assert all(generations(tmp_path / "broken" / str(number)) for number in range(len(stack)))
    resumed = trained(tiny, task, tmp_path / "broken", stack)
    for number, (result, again) in enumerate(zip(whole, resumed, strict=True)):
        assert (again.stop, again.best_index) == (result.stop, result.best_index)
        assert (again.evaluations[-1].prompt == result.evaluations[-1].prompt).all()
        assert curves(tmp_path / "whole" / str(number)) == curves(tmp_path / "broken" / str(number))
