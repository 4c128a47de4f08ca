"""The folder of a run: `run.json` at its start, curves and the best prompt as it goes, the rest at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import safetensors.torch
from torch import Tensor

from adapters.atomic_files import atomic_write, named
from adapters.files import write_folder
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.loop.checkpoint import generations, remove_checkpoints
from training.loop.events import EvalEvent, StepEvent
from training.runs.identity import check_same
from training.runs.layout import ADAPTER, COST, METHOD, METRICS, PREDICTIONS, RESULT, RUN, STEPS, WORDS
from training.runs.prompt_words import PromptWords
from training.runs.provenance import Cost
from training.task.task_file import TaskFile


class RunFolder:
    """One run's files."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """A folder for a run.

        Args:
            resume: go on with the run that it holds, if it does; otherwise such a folder is refused

        Raises:
            InvalidArguments: it holds a run, or cannot be made
        """
        if not resume and generations(path):
            raise InvalidArguments(
                f"{path} holds a run that is not finished; go on with it by --resume, name another folder with --out, "
                "or remove it"
            )
        if not resume and ((path / ADAPTER).exists() or (path / RESULT).exists()):
            raise InvalidArguments(f"{path} holds a run already; name another folder with --out, or remove it")
        above = next(folder for folder in (path, *path.parents) if folder.exists())
        if not above.is_dir():
            raise InvalidArguments(f"cannot make the run folder {path}: {above} is not a directory")
        self.path = path

    @property
    def adapter(self) -> Path:
        return self.path / ADAPTER

    @property
    def is_finished(self) -> bool:
        """Whether its run has come to its end; one that was interrupted has not."""
        return (self.path / RESULT).exists() and self.read_result()["stop"] != "interrupted"

    def write_arguments(self, task: TaskFile, arguments: TrainArguments, *, described: Mapping[str, object]) -> None:
        """Make the folder, with `run.json`: what the run was asked to do. One that goes on stays as it was.

        Args:
            described: what else belongs there: split, data, backbone, environment, the time of the start

        Raises:
            InvalidArguments: the folder cannot be made
            InvalidCheckpoint: it holds a run that was asked for something else
        """
        value = {"task": task.model_dump(mode="json"), "arguments": asdict(arguments), **described}
        if self.is_finished or generations(self.path):
            begun = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            check_same(self.path, begun, json.loads(json.dumps(value)))
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidArguments(f"cannot make the run folder {self.path}: {exc.strerror}") from exc
        for name in (METRICS, STEPS):
            (self.path / name).unlink(missing_ok=True)  # of a run that ended before its first result
        self._write_json(RUN, value)

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

    def rewind(self, evaluations: Sequence[EvalEvent], *, step: int) -> None:
        """Forget what the curves tell of after a checkpoint: the run comes to it again."""
        (self.path / METRICS).unlink(missing_ok=True)
        for event in evaluations:
            self.write_evaluation(event)
        if (self.path / STEPS).exists():
            lines = (self.path / STEPS).read_text(encoding="utf-8").splitlines(keepends=True)
            # the last line may have been cut off by what ended the process
            kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
            atomic_write({self.path / STEPS: "".join(kept).encode()})

    def write_method(self, state: Mapping[str, Tensor]) -> None:
        """The method's trained tensors; a process that is killed meanwhile leaves the last ones whole."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        atomic_write({self.path / METHOD: safetensors.torch.save(tensors)})

    def read_method(self) -> dict[str, Tensor]:
        """What `write_method` wrote last."""
        tensors: dict[str, Tensor] = safetensors.torch.load_file(self.path / METHOD)
        return tensors

    def write_predictions(self, table: pyarrow.Table) -> None:
        """What the best prompt answered on the report rows, as `training.scoring.predictions` lays it out."""
        file = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, file)
        atomic_write({self.path / PREDICTIONS: file.getvalue().to_pybytes()})

    def write_words(self, words: PromptWords) -> None:
        """What the prompt is made of, in words."""
        self._write_json(WORDS, asdict(words))

    def write_result(self, result: Mapping[str, object]) -> None:
        """What the run came to, its last file; with it the run is finished, unless it says `interrupted`."""
        self._write_json(RESULT, result)
        if result["stop"] != "interrupted":
            remove_checkpoints(self.path)

    def read_result(self) -> dict[str, Any]:
        """What `write_result` wrote."""
        value: dict[str, Any] = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return value

    def write_cost(self, cost: Cost) -> None:
        """What the run took."""
        self._write_json(COST, asdict(cost))

    def write_adapter(self, files: dict[str, bytes]) -> None:
        """The adapter's files, replaced."""
        write_folder(self.adapter, files)

    def _write_json(self, name: str, value: object) -> None:
        atomic_write({self.path / name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()})

    def _append(self, name: str, lines: Sequence[object]) -> None:
        with named(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def next_free_folder(runs: Path, name: str) -> Path:
    """`runs/name`, or the first of `runs/name-2`, `-3` … that is free."""
    number, path = 1, runs / name
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path
