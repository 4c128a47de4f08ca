"""What tests of training build with: a task that a prompt learns in seconds, and runs of it."""

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters import TaskSpec
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.data.splits import Split
from training.loop.events import EvalEvent, StepEvent
from training.runs.executor import Event, train_runs
from training.runs.plan import RunPlan
from training.runs.run import RunReport
from training.task.scoring import MetricName
from training.task.task_file import DataSource, TaskFile

SPEC = TaskSpec(template="text: {text}", labels={"sports": "sports", "business": "business"}, max_tokens=32)
WORDS = ["gripping", "film", "the", "quick", "brown", "fox", "over", "lazy", "dog", "city"]
QUICK = TrainArguments(epochs=4, batch_size=12, lr=0.05, num_virtual_tokens=6, num_sampled_tokens=32)


def easy_rows(count: int, *, seed: int) -> list[dict[str, str]]:
    """Rows whose label stands among a few other words."""
    drawn = random.Random(seed)
    rows = []
    for _ in range(count):
        label = drawn.choice(["sports", "business"])
        words = drawn.sample(WORDS, 2)
        words.insert(drawn.randrange(3), label)
        rows.append({"text": " ".join(words), "label": label})
    return rows


TOPICS = TaskSpec(
    template="text: {text}",
    labels={"sports": "sports", "business": "business", "capital": "capital"},
    kind="multi_label",
    max_tokens=32,
)


def topic_rows(count: int, *, seed: int) -> list[dict[str, object]]:
    """Rows with any number of labels, each of which stands in the text."""
    drawn = random.Random(seed)
    rows: list[dict[str, object]] = []
    for _ in range(count):
        labels = [label for label in TOPICS.label_names if drawn.random() < 0.4]
        words = [*drawn.sample(WORDS, 2), *labels]
        drawn.shuffle(words)
        rows.append({"text": " ".join(words), "label": labels})
    return rows


def topics_task(folder: Path, *, rows: int = 120) -> TaskFile:
    """A multi-label task that is learned in seconds, its rows in a folder."""
    train_path = write_rows(folder / "train.jsonl", topic_rows(rows, seed=1))
    report_path = write_rows(folder / "validation.jsonl", topic_rows(60, seed=2))
    data = DataSource(train=str(train_path), validation=str(report_path))
    return TaskFile(name="topics", spec=TOPICS, metrics=("micro_f1", "macro_f1"), data=data)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def easy_task(folder: Path, *, metrics: tuple[MetricName, ...] = ("accuracy",)) -> TaskFile:
    """A task that a prompt learns in seconds, its rows in a folder."""
    train_path = write_rows(folder / "train.jsonl", easy_rows(120, seed=1))
    report_path = write_rows(folder / "validation.jsonl", easy_rows(60, seed=2))
    data = DataSource(train=str(train_path), validation=str(report_path))
    return TaskFile(name="topic", description="What a text is about.", spec=SPEC, metrics=metrics, data=data)


@dataclasses.dataclass
class Finished:
    """A run that is done, with what it told on its way."""

    report: RunReport
    task: TaskFile
    steps: list[StepEvent]
    epochs: list[EvalEvent]


def run(
    backbone: Backbone,
    task: TaskFile,
    folder: Path,
    arguments: TrainArguments = QUICK,
    *,
    split: Split = "honest",
    limit: int | None = None,
    baselines: bool = False,
) -> Finished:
    steps: list[StepEvent] = []
    epochs: list[EvalEvent] = []

    def hear(number: int, event: Event) -> None:
        if isinstance(event, StepEvent):
            steps.append(event)
        elif isinstance(event, EvalEvent):
            epochs.append(event)

    plan = RunPlan(task=task, arguments=arguments, folder=folder, split=split, limit=limit, baselines=baselines)
    (report,) = train_runs(backbone, [plan], on_event=hear)
    return Finished(report, task, steps, epochs)


def lines_of(folder: Path) -> list[dict[str, object]]:
    """`metrics.jsonl` as strict JSON, which has no NaN."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"metrics.jsonl holds {constant}, which is not JSON")

    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def curves(folder: Path) -> list[object]:
    """Everything that a run wrote of its way, but for the time it took."""
    lines = [
        json.loads(line)
        for name in ("metrics.jsonl", "steps.jsonl")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ]
    return [{name: value for name, value in line.items() if name != "elapsed_s"} for line in lines]
