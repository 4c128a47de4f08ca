"""A run that was ended goes on from its checkpoint, and comes to what it would have come to, to the last digit."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from support.training import QUICK, curves, easy_task

from backbone import Backbone
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments, InvalidCheckpoint
from training.loop.checkpoint import Checkpoints, generations
from training.loop.events import StepEvent
from training.loop.prompt_run import PromptRun
from training.loop.train import train_stack
from training.runs.executor import train_prepared
from training.runs.folder import RunFolder
from training.runs.identity import check_same
from training.runs.plan import RunPlan
from training.runs.run import Preparation, RunReport, TrainingEvent, begin, finish, prepare
from training.runs.scorer import Scorer
from training.task.task_file import DataSource, TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

STACK = [
    QUICK,
    dataclasses.replace(QUICK, seed=3, epochs=2, eval_every=5),
    dataclasses.replace(QUICK, method="simple", lr=0.3, batch_size=7, epochs=2, clip=0.5, patience=2),
]
"""Of 108 rows: 9 steps an epoch, or 16; the second leaves the stack after 18 steps."""


def interrupt_at(step: int) -> Callable[[TrainingEvent], None]:
    def interrupt(event: TrainingEvent) -> None:
        if isinstance(event, StepEvent) and event.step == step:
            raise KeyboardInterrupt

    return interrupt


def begin_all(
    backbone: Backbone, task: TaskFile, folder: Path, stack: Sequence[TrainArguments], *, until: int | None = None
) -> list[Preparation]:
    """Those of a stack that are not finished, new or to go on with; the first is interrupted at a step."""
    stop = interrupt_at(-1 if until is None else until)
    plans = [
        RunPlan(task=task, arguments=arguments, folder=folder / str(number)) for number, arguments in enumerate(stack)
    ]
    runs = [
        begin(
            backbone,
            prepare(backbone, plan, RunFolder(plan.folder, resume=True)),
            on_event=stop if number == 0 else lambda event: None,
        )
        for number, plan in enumerate(plans)
    ]
    return [run for run in runs if not run.folder.is_finished]


def train_all(backbone: Backbone, prepared: Sequence[Preparation], *, every_s: float = 0) -> list[RunReport]:
    """Train with a checkpoint after every step, and finish."""
    checkpoints = Checkpoints([run.folder.path for run in prepared], every_s=every_s)
    results = train_stack(backbone, [run.job for run in prepared], checkpoints)
    scorer = Scorer(backbone)
    return [finish(scorer, run, result) for run, result in zip(prepared, results, strict=True)]


@pytest.fixture(scope="module")
def whole(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack's folders, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train_all(tiny, begin_all(tiny, easy_task(folder), folder, STACK))
    return folder


@pytest.mark.parametrize("until", [1, 20])
@pytest.mark.slow
def test_a_stack_that_was_interrupted_comes_to_what_it_would_have_come_to(
    tiny: Backbone, task: TaskFile, whole: Path, tmp_path: Path, until: int
) -> None:
    broken = train_all(tiny, begin_all(tiny, task, tmp_path / "broken", STACK, until=until))
    assert "interrupted" in {report.result.stop for report in broken}
    train_all(tiny, begin_all(tiny, task, tmp_path / "broken", STACK))
    for number in range(len(STACK)):
        resumed = tmp_path / "broken" / str(number)
        assert curves(whole / str(number)) == curves(resumed)
        assert (whole / str(number) / "result.json").read_text() == (resumed / "result.json").read_text()
        assert RunFolder(resumed, resume=True).is_finished
        assert not generations(resumed)


@pytest.mark.slow
def test_a_process_that_ends_while_checkpoints_are_written_leaves_a_generation_that_all_have(
    tiny: Backbone, task: TaskFile, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = PromptRun.state
    calls = 0

    def end(run: PromptRun) -> object:
        nonlocal calls
        calls += 1
        if calls == 3 * 12 + 2:  # three jobs: the twelfth step's, for the first of them alone
            raise MemoryError
        return taken(run)

    monkeypatch.setattr(PromptRun, "state", end)
    with pytest.raises(MemoryError):
        train_all(tiny, begin_all(tiny, task, tmp_path / "broken", STACK))
    monkeypatch.undo()
    numbers = [set(generations(tmp_path / "broken" / str(number))) for number in range(3)]
    assert numbers == [{11, 12}, {11}, {11}]
    train_all(tiny, begin_all(tiny, task, tmp_path / "broken", STACK))
    for number in range(len(STACK)):
        assert curves(whole / str(number)) == curves(tmp_path / "broken" / str(number))


def test_an_interrupted_run_keeps_its_best_and_is_not_finished(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    (report,) = train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=12))
    folder = RunFolder(tmp_path / "0", resume=True)
    assert report.result.stop == "interrupted"
    assert folder.adapter.is_dir()
    assert not folder.is_finished
    with pytest.raises(InvalidArguments, match="unfinished run; resume it with --resume"):
        RunFolder(tmp_path / "0")


@pytest.mark.slow
def test_cost_counts_what_came_before(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=20))
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK]))
    cost = json.loads((tmp_path / "0" / "cost.json").read_text())
    assert (cost["steps"], cost["rows"]) == (36, 4 * 108)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.06}, "arguments.lr is 0.06 and was 0.05"),
        ({"clip": 1.0, "seed": 0}, "arguments.clip is 1.0 and was None"),
    ],
)
@pytest.mark.slow
def test_other_arguments_are_refused(
    tiny: Backbone, task: TaskFile, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=3))
    with pytest.raises(InvalidCheckpoint) as caught:
        begin_all(tiny, task, tmp_path, [dataclasses.replace(QUICK, **changes)])
    assert said in str(caught.value)


def test_other_rows_another_task_and_another_backbone_are_refused(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=3))
    shorter = task.model_copy(update={"spec": task.spec.model_copy(update={"max_tokens": 16})})
    with pytest.raises(InvalidCheckpoint, match=r"task\.spec\.max_tokens is 16 and was 32"):
        begin_all(tiny, shorter, tmp_path, [QUICK])
    stranger = dataclasses.replace(tiny.identity, fingerprint=f"sha256:{'0' * 64}")
    other = Backbone(stranger, tiny.architecture, tiny.weights, tiny.tokenizer)
    with pytest.raises(InvalidCheckpoint, match=r"backbone\.fingerprint is 'sha256:00.* and was "):
        begin_all(other, task, tmp_path, [QUICK])
    Path(task.data.train).write_text(Path(task.data.train).read_text() * 2)
    with pytest.raises(InvalidCheckpoint, match=r"data\.train_rows is 216 and was 108; data\.train_sha256 is "):
        begin_all(tiny, task, tmp_path, [QUICK])


@pytest.mark.slow
def test_the_same_rows_in_another_place_are_the_same_run(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=3))
    (tmp_path / "moved").mkdir()
    (report,) = train_all(tiny, begin_all(tiny, easy_task(tmp_path / "moved"), tmp_path, [QUICK]))
    assert report.result.stop == "finished"


def read_otherwise(task: TaskFile, **data: object) -> TaskFile:
    return task.model_copy(update={"data": task.data.model_copy(update=data)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"label_values": {"sports": "business", "business": "sports"}},
            r"task\.data\.label_values is {'sports': 'busi",
        ),
        ({"columns": {"text": "label"}}, r"task\.data\.columns is {'text': 'label'} and was {}"),
        ({"label": "text"}, r"task\.data\.label is 'text' and was 'label'"),
        ({"group": "text"}, r"task\.data\.group is 'text' and was None"),
    ],
)
def test_the_same_rows_read_otherwise_are_another_run(
    task: TaskFile, tmp_path: Path, data: dict[str, object], said: str
) -> None:
    begun = {"task": task.model_dump(mode="json")}
    with pytest.raises(InvalidCheckpoint, match=said):
        check_same(tmp_path, begun, {"task": read_otherwise(task, **data).model_dump(mode="json")})


def test_where_the_rows_lie_and_what_tells_of_a_task_decide_nothing(task: TaskFile, tmp_path: Path) -> None:
    sums = {"train_sha256": "1", "validation_sha256": "2"}
    begun = {
        "task": task.model_dump(mode="json"),
        "data": {"train_file": "train.jsonl", **sums},
        "backbone": {"id": "./t5", "revision": "local", "fingerprint": "3"},
    }
    elsewhere = DataSource(directory=str(tmp_path / "moved"))
    moved = task.model_copy(update={"data": elsewhere, "description": "Another."})
    asked = {
        "task": moved.model_dump(mode="json"),
        "data": {"train_file": "train-1.jsonl", **sums},
        "backbone": {"id": "/models/t5", "revision": "local", "fingerprint": "3"},
    }
    check_same(tmp_path, begun, asked)
    with pytest.raises(InvalidCheckpoint, match=r"data\.validation_sha256 is None and was '2'"):
        check_same(tmp_path, begun, asked | {"data": {"train_sha256": "1"}})


def test_a_key_that_one_version_of_the_program_does_not_know_is_no_change(task: TaskFile, tmp_path: Path) -> None:
    now = {"task": task.model_dump(mode="json"), "arguments": {"lr": 0.1, "newer": 3}}
    begun = {"task": {"name": "topic", "data": {"label": "label"}}, "arguments": {"lr": 0.1, "older": 2}}
    check_same(tmp_path, begun, now)


def test_a_damaged_checkpoint_is_refused_by_its_name(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    train_all(tiny, begin_all(tiny, task, tmp_path, [QUICK], until=3))
    (path,) = generations(tmp_path / "0").values()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidCheckpoint, match=path.name):
        train_prepared(tiny, begin_all(tiny, task, tmp_path, [QUICK]))


@pytest.mark.slow
def test_dropout_goes_on_where_it_was(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    stack = [dataclasses.replace(QUICK, dropout=True, epochs=2)]
    (never_ended,) = train_all(tiny, begin_all(tiny, task, tmp_path / "whole", stack))
    train_all(tiny, begin_all(tiny, task, tmp_path / "broken", stack, until=11))
    torch.manual_seed(6)  # what anything else draws is of no account
    (resumed,) = train_all(tiny, begin_all(tiny, task, tmp_path / "broken", stack))
    assert resumed.adapter.digest == never_ended.adapter.digest
