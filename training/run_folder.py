"""The folder of a run: `run.json` at its start, curves and the best prompt as it goes, the rest at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow
import pyarrow.parquet
import safetensors.torch
from torch import Tensor

from adapters.files import write_folder
from training.arguments import TrainArguments
from training.cost import Cost
from training.errors import InvalidArguments
from training.events import EvalEvent, StepEvent
from training.prompt_words import PromptWords
from training.run_files import ADAPTER, COST, METHOD, METRICS, PREDICTIONS, RESULT, RUN, STEPS, WORDS
from training.task_file import TaskFile


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

    def write_arguments(self, task: TaskFile, arguments: TrainArguments, *, described: Mapping[str, object]) -> None:
        """Make the folder, with `run.json`: what the run was asked to do.

        Args:
            described: what else belongs there: split, data, backbone, environment, the time of the start
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidArguments(f"cannot make the run folder {self.path}: {exc.strerror}") from exc
        for name in (METRICS, STEPS):
            (self.path / name).unlink(missing_ok=True)  # of a run that ended before its first result
        self._write_json(RUN, {"task": task.model_dump(mode="json"), "arguments": asdict(arguments), **described})

    def write_evaluation(self, event: EvalEvent) -> None:
        """One line of `metrics.jsonl`."""
        line = {
            "epoch": event.epoch,
            "step": event.step,
            "train_loss": event.train_loss,
            **event.metrics.figures(),
            "collapsed": event.metrics.collapsed,
            "best": event.is_best,
            "elapsed_s": round(event.elapsed_s, 2),
        }
        self._append(METRICS, [line])

    def write_steps(self, events: Sequence[StepEvent]) -> None:
        """A line of `steps.jsonl` a step: the batch's loss."""
        self._append(STEPS, [{"step": event.step, "epoch": event.epoch, "loss": event.loss} for event in events])

    def write_method(self, state: Mapping[str, Tensor]) -> None:
        """The method's trained tensors; a process that is killed meanwhile leaves the last ones whole."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        part = self.path / f"{METHOD}.part"
        safetensors.torch.save_file(tensors, part)
        part.replace(self.path / METHOD)

    def read_method(self) -> dict[str, Tensor]:
        """What `write_method` wrote last."""
        tensors: dict[str, Tensor] = safetensors.torch.load_file(self.path / METHOD)
        return tensors

    def write_predictions(self, table: pyarrow.Table) -> None:
        """What the best prompt answered on the report rows, as `training.predictions` lays it out."""
        pyarrow.parquet.write_table(table, self.path / PREDICTIONS)

    def write_words(self, words: PromptWords) -> None:
        """What the prompt is made of, in words."""
        self._write_json(WORDS, asdict(words))

    def write_result(self, result: Mapping[str, object]) -> None:
        """What the run came to: the last file of its report's; with it the run is finished."""
        self._write_json(RESULT, result)

    def write_cost(self, cost: Cost) -> None:
        """What the run took."""
        self._write_json(COST, asdict(cost))

    def write_adapter(self, files: dict[str, bytes]) -> None:
        """The adapter's folder, replaced."""
        write_folder(self.adapter, files)

    def _write_json(self, name: str, value: object) -> None:
        (self.path / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _append(self, name: str, lines: Sequence[object]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def fresh_folder(runs: Path, name: str) -> Path:
    """`runs/name`, or the first of `runs/name-2`, `-3` … that is free."""
    number, path = 1, runs / name
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path
