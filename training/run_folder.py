"""The folder of a run: `run.json` at its start, `metrics.jsonl` as it goes, the adapter at its end."""

import json
from dataclasses import asdict
from pathlib import Path

from adapters.files import write_folder
from training.arguments import TrainArguments
from training.errors import InvalidArguments
from training.events import EpochEvent
from training.task_file import TaskFile

ADAPTER = "adapter"


class RunFolder:
    """One run's files. A folder that holds a run already is refused."""

    def __init__(self, path: Path) -> None:
        if (path / ADAPTER).exists():
            raise InvalidArguments(f"{path} holds a run already; name another folder with --out, or remove it")
        above = next(folder for folder in (path, *path.parents) if folder.exists())
        if not above.is_dir():
            raise InvalidArguments(f"cannot make the run folder {path}: {above} is not a directory")
        self.path = path

    @property
    def adapter(self) -> Path:
        return self.path / ADAPTER

    def write_arguments(self, task: TaskFile, arguments: TrainArguments) -> None:
        """Make the folder, with `run.json`: what the run was asked to do."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidArguments(f"cannot make the run folder {self.path}: {exc.strerror}") from exc
        (self.path / "metrics.jsonl").unlink(missing_ok=True)  # of a run that ended before its first result
        value = {"task": task.model_dump(mode="json"), "arguments": asdict(arguments)}
        (self.path / "run.json").write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def write_epoch(self, event: EpochEvent) -> None:
        """One line of `metrics.jsonl`."""
        line = {
            "epoch": event.epoch,
            "train_loss": event.train_loss,
            **event.metrics.figures(),
            "collapsed": event.metrics.collapsed,
            "best": event.is_best,
            "elapsed_s": round(event.elapsed_s, 2),
        }
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_adapter(self, files: dict[str, bytes]) -> None:
        """The adapter's folder, replaced."""
        write_folder(self.adapter, files)


def fresh_folder(runs: Path, name: str) -> Path:
    """`runs/name`, or the first of `runs/name-2`, `-3` … that is free."""
    number, path = 1, runs / name
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path
