"""The folder of a run: `run.json` at its start, curves and the best prompt during training, the rest at its end."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import pyarrow
import pyarrow.parquet
import safetensors.torch
from torch import Tensor

from adapters.atomic_files import add_filename, atomic_write
from adapters.files import write_folder
from training.config.arguments import TrainArguments
from training.errors import FolderInUse, InvalidArguments
from training.loop.checkpoint import generations, remove_checkpoints
from training.loop.events import EvalEvent, StepEvent
from training.runs.identity import check_same
from training.runs.layout import ADAPTER, COST, METHOD, METRICS, PREDICTIONS, RESULT, RUN, STEPS, WORDS
from training.runs.prompt_words import PromptWords
from training.runs.provenance import Cost
from training.task.task_file import TaskFile


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Open the folder of a run; nothing is written yet.

        Args:
            resume: accept a folder that holds a run, to resume it

        Raises:
            InvalidArguments: the folder holds a run and `resume` is False, or it cannot be created
        """
        if not resume and generations(path):
            raise InvalidArguments(
                f"{path} holds an unfinished run; resume it with --resume, choose another folder with --out, "
                "or remove the folder"
            )
        if not resume and ((path / ADAPTER).exists() or (path / RESULT).exists()):
            raise InvalidArguments(
                f"{path} already holds a run; choose another folder with --out, or remove the folder"
            )
        above = next(folder for folder in (path, *path.parents) if folder.exists())
        if not above.is_dir():
            raise InvalidArguments(f"cannot create the run folder {path}: {above} is not a directory")
        self.path = path

    @property
    def adapter(self) -> Path:
        return self.path / ADAPTER

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete; an interrupted run is not."""
        return (self.path / RESULT).exists() and self.read_result()["stop"] != "interrupted"

    def write_arguments(self, task: TaskFile, arguments: TrainArguments, *, described: Mapping[str, object]) -> None:
        """Create the folder and write `run.json`. The file of a resumed run is kept.

        Args:
            described: what else the file holds: split, data, backbone, environment, start time

        Raises:
            InvalidArguments: the folder cannot be created
            InvalidCheckpoint: it holds a run with other settings
        """
        value = {"task": task.model_dump(mode="json"), "arguments": asdict(arguments), **described}
        if self.is_finished or generations(self.path):
            begun = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            check_same(self.path, begun, json.loads(json.dumps(value)))
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidArguments(f"cannot create the run folder {self.path}: {exc.strerror}") from exc
        for name in (METRICS, STEPS):
            (self.path / name).unlink(missing_ok=True)  # left by a run that ended before its first result
        self._write_json(RUN, value)

    def write_evaluation(self, event: EvalEvent) -> None:
        """Append a line to `metrics.jsonl`."""
        line = {
            "epoch": event.epoch,
            "step": event.step,
            "train_loss": event.train_loss,
            **event.metrics.figures(),
            "collapsed": event.metrics.collapsed,
            "best": event.is_best,
            "elapsed_s": round(event.elapsed_s, 2),
        } | ({"out_of_fold": True} if event.is_out_of_fold else {})
        self._append(METRICS, [line])

    def write_steps(self, events: Sequence[StepEvent]) -> None:
        """Append a line per step to `steps.jsonl`, with the batch's loss."""
        self._append(STEPS, [{"step": event.step, "epoch": event.epoch, "loss": event.loss} for event in events])

    def rewind(self, evaluations: Sequence[EvalEvent], *, step: int) -> None:
        """Cut the curves back to a checkpoint, after which the run repeats its steps."""
        (self.path / METRICS).unlink(missing_ok=True)
        for event in evaluations:
            self.write_evaluation(event)
        if (self.path / STEPS).exists():
            lines = (self.path / STEPS).read_text(encoding="utf-8").splitlines(keepends=True)
            # the last line may be incomplete if the process was killed
            kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
            atomic_write({self.path / STEPS: "".join(kept).encode()})

    def write_method(self, state: Mapping[str, Tensor]) -> None:
        """Replace the method's trained tensors atomically."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        atomic_write({self.path / METHOD: safetensors.torch.save(tensors)})

    def read_method(self) -> dict[str, Tensor]:
        """Read what `write_method` wrote last."""
        tensors: dict[str, Tensor] = safetensors.torch.load_file(self.path / METHOD)
        return tensors

    def write_predictions(self, table: pyarrow.Table) -> None:
        """Write the best prompt's predictions on the report rows, a table of `training.scoring.predictions`."""
        file = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, file)
        atomic_write({self.path / PREDICTIONS: file.getvalue().to_pybytes()})

    def write_words(self, words: PromptWords) -> None:
        """Write the vocabulary nearest to the prompt."""
        self._write_json(WORDS, asdict(words))

    def write_result(self, result: Mapping[str, object]) -> None:
        """Write the results, the last file of a run; they finish the run unless it was interrupted."""
        self._write_json(RESULT, result)
        if result["stop"] != "interrupted":
            remove_checkpoints(self.path)

    def read_result(self) -> dict[str, Any]:
        """Read what `write_result` wrote."""
        value: dict[str, Any] = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return value

    def write_cost(self, cost: Cost) -> None:
        """Write the run's cost."""
        self._write_json(COST, asdict(cost))

    def write_adapter(self, files: dict[str, bytes]) -> None:
        """Replace the adapter's files."""
        write_folder(self.adapter, files)

    def _write_json(self, name: str, value: object) -> None:
        atomic_write({self.path / name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()})

    def _append(self, name: str, lines: Sequence[object]) -> None:
        with add_filename(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def next_free_folder(runs: Path, name: str) -> Path:
    """Return `runs/name`, or the first of `runs/name-2`, `-3` … that does not exist."""
    number, path = 1, runs / name
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path


LOCK = ".lock"
"""The lock file; it stays in the folder. The operating system holds the lock, so a killed process releases it."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes; the folder is created if missing.

    Raises:
        FolderInUse: another process holds the lock
        InvalidArguments: the folder cannot be created
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidArguments(f"cannot create the folder {folder}: {exc.strerror}") from exc
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise FolderInUse(f"another process is using {folder}; wait for it to end, or choose another folder") from exc
    try:
        yield
    finally:
        lock.release()
