"""Prompts dealt to processes: as alone, ended together, and a process that dies leaves runs to go on with."""

import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from support.training import QUICK, curves

from backbone import Backbone
from training.config.arguments import TrainArguments
from training.loop.checkpoint import generations
from training.loop.events import EvalEvent, StepEvent
from training.runs.executor import EndEvent, Event, ScoreEvent, train_runs
from training.runs.folder import RunFolder
from training.runs.plan import RunPlan
from training.runs.processes import BackboneSource, assign, train_in_processes
from training.runs.run_result import read_run_result
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def plan_of(task: TaskFile, folder: Path, arguments: TrainArguments = QUICK) -> RunPlan:
    return RunPlan(task=task, arguments=arguments, folder=folder)


def source_of(tiny_t5: Path, cache_dir: Path) -> BackboneSource:
    return BackboneSource(source=str(tiny_t5), cache_dir=cache_dir, revision=None, offline=True)


def test_plans_are_dealt_in_turn_and_share_the_threads(task: TaskFile, tiny_t5: Path, tmp_path: Path) -> None:
    plans = [plan_of(task, tmp_path / str(number)) for number in range(5)]
    source = source_of(tiny_t5, tmp_path)
    shares = assign(plans, source, devices=["cuda:0", "cuda:1"], processes=3, threads=8)
    assert [share.numbers for share in shares] == [(0, 3), (1, 4), (2,)]
    assert [share.device for share in shares] == ["cuda:0", "cuda:1", "cuda:0"]
    assert {share.threads for share in shares} == {2}
    assert shares[1].plans == (plans[1], plans[4])
    assert len(assign(plans[:2], source, devices=["cpu"], processes=9, threads=1)) == 2


@pytest.mark.slow
def test_an_interrupt_ends_all_and_a_process_that_dies_leaves_a_run_that_comes_to_what_it_would_have_alone(
    tiny: Backbone, tiny_t5: Path, task: TaskFile, tmp_path: Path, cache_dir: Path
) -> None:
    endless, longer = (dataclasses.replace(QUICK, epochs=epochs) for epochs in (100_000, 8))
    plans = [plan_of(task, tmp_path / "endless", endless), plan_of(task, tmp_path / "dies", longer)]
    told: list[tuple[int, Event]] = []

    def watch(number: int, event: Event) -> None:
        told.append((number, event))
        numbers = {number for number, event in told if isinstance(event, StepEvent)}
        if number == 1 and isinstance(event, StepEvent) and event.step == 1:
            (process,) = (child for child in multiprocessing.active_children() if child.name.endswith("-2"))
            os.kill(process.pid or 0, signal.SIGKILL)
        if numbers == {0, 1} and isinstance(event, StepEvent) and event.step == 1:
            signal.raise_signal(signal.SIGINT)

    shares = assign(plans, source_of(tiny_t5, cache_dir), devices=["cpu"], processes=2, threads=2)
    (failure,) = train_in_processes(shares, on_event=watch)
    assert (failure.assignment.numbers, failure.reason) == ((1,), "its process ended with exit code -9")
    assert {number for number, event in told if isinstance(event, EvalEvent)} == {0, 1}
    assert [(number, event) for number, event in told if isinstance(event, EndEvent | ScoreEvent)] == [
        (0, EndEvent("interrupted")),
        (0, ScoreEvent()),
    ]
    assert read_run_result(tmp_path / "endless").stop == "interrupted"
    assert generations(tmp_path / "endless")
    assert generations(tmp_path / "dies")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train_runs(tiny, [plan_of(task, tmp_path / "alone", longer)])
    train_runs(tiny, [plans[1]])
    assert RunFolder(tmp_path / "dies", resume=True).is_finished
    assert curves(tmp_path / "dies") == curves(tmp_path / "alone")
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("dies", "alone")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_share_that_is_refused_says_why(tiny_t5: Path, task: TaskFile, tmp_path: Path, cache_dir: Path) -> None:
    gone = task.model_copy(update={"data": task.data.model_copy(update={"train": str(tmp_path / "gone.jsonl")})})
    source = source_of(tiny_t5, cache_dir)
    shares = assign([plan_of(gone, tmp_path / "run")], source, devices=["cpu"], processes=1, threads=1)
    (failure,) = train_in_processes(shares, on_event=lambda number, event: None)
    assert failure.reason == f"{tmp_path / 'gone.jsonl'}: no such file"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_stack_trains_in_bf16_on_a_gpu(tiny_t5: Path, task: TaskFile, tmp_path: Path, cache_dir: Path) -> None:
    backbone = source_of(tiny_t5, cache_dir).load("cuda")
    plans = [
        dataclasses.replace(
            plan_of(task, tmp_path / str(seed), dataclasses.replace(QUICK, seed=seed)), precision="bf16"
        )
        for seed in range(2)
    ]
    train_runs(backbone, plans)
    assert torch.cuda.max_memory_allocated() > 0
    for plan in plans:
        outcome = read_run_result(plan.folder)
        assert outcome.trained.loss < outcome.untrained.loss
