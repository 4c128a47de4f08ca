"""`Library`: the finished runs in a folder, as source prompts with the rows that they were trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from adapters.adapter import PromptAdapter
from backbone import Backbone
from training.errors import InvalidArguments
from training.runs.adapter_folder import read_sources
from training.runs.layout import ADAPTER, RESULT, RUN, read_json
from training.runs.run_result import RunResult, read_run_result
from training.runs.task_rows import TaskRows
from training.scoring.evaluation import TokenizedRows
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True, eq=False)
class SourcePrompt:
    """A finished run of a library."""

    folder: Path
    task: TaskFile
    adapter: PromptAdapter
    result: RunResult
    rows: TokenizedRows
    """The rows that it was trained on."""

    def prompt(self, device: torch.device) -> Tensor:
        """Return the prompt, [P, H]."""
        return torch.from_numpy(self.adapter.prompt.copy()).to(device)


def read_library(backbone: Backbone, folder: Path) -> tuple[SourcePrompt, ...]:
    """Read the finished runs under a folder whose adapters score label words, in the order of their paths.

    Raises:
        InvalidArguments: there are none, a run cannot be read or is for another backbone, or two prompts differ in
            length
        InvalidData: the rows of a run cannot be read
    """
    runs = sorted(path.parent for path in folder.rglob(RUN) if (path.parent / RESULT).is_file())
    found = []
    tasks: dict[str, TaskRows] = {}
    for path in runs:
        if not (path / ADAPTER).is_dir():
            continue
        found += _source(backbone, path, tasks)
    if not found:
        raise InvalidArguments(
            f"{folder} holds no finished run with label words, expected those of 'superpos library train'"
        )
    if len(lengths := {len(source.adapter.prompt) for source in found}) > 1:
        raise InvalidArguments(
            f"{folder} holds prompts of {' and '.join(map(str, sorted(lengths)))} virtual tokens, expected one length"
        )
    return tuple(found)


def best_of_each_task(sources: Sequence[SourcePrompt]) -> tuple[SourcePrompt, ...]:
    """Return one source for each task, the best on its selection rows, in the order of the tasks' first sources."""
    best: dict[str, SourcePrompt] = {}
    for source in sources:
        known = best.get(source.task.name)
        if known is None or _rank(source) > _rank(known):
            best[source.task.name] = source
    return tuple(best.values())


def _rank(source: SourcePrompt) -> tuple[float, float]:
    return source.result.selection.score, -source.result.selection.loss


def _source(backbone: Backbone, path: Path, tasks: dict[str, TaskRows]) -> list[SourcePrompt]:
    """Return the source of a run; empty if its readout is learned, so that its prompt alone answers nothing."""
    try:
        run = read_json(path / RUN)
        task = TaskFile.model_validate(run["task"])
        seed, readout = run["arguments"]["seed"], run["arguments"].get("readout", "words")
        split, limit, shots = run["split"], run["limit"], run.get("shots")
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as exc:
        raise InvalidArguments(f"cannot read the run {path}: {exc!r}") from exc
    if readout != "words" or split == "kfold":
        return []
    (adapter,) = read_sources(backbone, [str(path)])
    assert isinstance(adapter, PromptAdapter)
    rows = tasks.setdefault(task.model_dump_json(), TaskRows(backbone, task)).divided(
        split=split, seed=seed, limit=limit, shots=shots
    )
    return [SourcePrompt(path, task, adapter, read_run_result(path), rows.train)]
