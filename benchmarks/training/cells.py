"""Cells of the accuracy grids: one way to classify, one set, one seed and a number of rows per label.

A cell's result is one line of JSON in the grid's file, written when the cell is done; a cell with a line is not run
again. The runs themselves are those of `superpos train` and leave no folder.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from adapters.atomic_files import atomic_write
from adapters.baselines import BaselineName
from adapters.readout import ReadoutKind
from backbone import Backbone, Precision
from benchmarks.common.report import commit
from training.baselines.comparison import compared
from training.config.arguments import TrainArguments, used_arguments
from training.config.choices import OWN_MODEL
from training.config.presets import train_arguments
from training.errors import TooFewRows
from training.loop.events import StepEvent, TrainResult
from training.runs.executor import Event, FailEvent, train_runs
from training.runs.plan import RunPlan
from training.runs.run import RunReport
from training.runs.scorer import Scorer
from training.runs.task_rows import RunRows, TaskRows
from training.task.task_file import TaskFile

SETS = ("sst2", "mrpc", "rte", "cb", "cola", "trec", "ag_news", "banking77", "stsb")
PROMPTS = ("superpos", "simple", "none")
READOUTS: tuple[ReadoutKind, ...] = get_args(ReadoutKind)
TFIDF, ZERO_SHOT, HEAD = "tfidf", "none/words", "none/pooled"
SAY_EVERY_S = 60.0
"""Seconds between two lines of progress of a stack, at least."""
AUTO_START = "start_auto/words"
"""`superpos train --start auto`: SPoT from the source of the best trial, or SuperPos if no source beats it there."""
LINES = (*(f"{prompt}/{readout}" for prompt in PROMPTS for readout in READOUTS), TFIDF)
"""Ways to classify, `prompt/readout`; `none/words` is the untrained model, `none/pooled` the frozen head."""
BASELINES: Mapping[str, BaselineName] = {TFIDF: "tfidf", ZERO_SHOT: "zero_shot"}
"""Lines that are fitted as baselines instead of trained as runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell, with everything that decides its result."""

    set: str
    line: str
    seed: int
    shots: int | None = None
    """Training rows of each label, as with `superpos train --shots`; None for all rows."""
    limit: int | None = None
    """Maximum number of training rows."""
    max_selection: int | None = None
    max_report: int | None = None
    arguments: tuple[tuple[str, str | int | float | bool], ...] = ()
    """Training arguments that differ from the defaults, sorted by name."""
    sources: tuple[str, ...] = ()
    """Folders that its method starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """A finished cell."""

    cell: Cell
    measure: str
    """The task's metrics, whose mean is the score."""
    score: float
    low: float
    high: float
    """Bounds of the score's 95 % bootstrap interval over the report rows."""
    metrics: Mapping[str, float]
    selection_score: float | None
    """None for a baseline."""
    selection_loss: float | None
    rows: Mapping[str, int]
    """Numbers of training, selection and report rows."""
    seconds: float
    commit: str
    steps_to_95: int | None = None
    """Steps to 95 % of the best selection score; None for a baseline, and for results from before it was recorded."""
    precision: Precision | None = None
    """The frozen network's in training, scores are of float32; None likewise."""
    curve: tuple[tuple[int, float], ...] = ()
    """Step and selection score of each evaluation; empty likewise."""


_RESULT = TypeAdapter(CellResult)


def read_results(path: Path) -> list[CellResult]:
    """Read a grid's file; empty if it does not exist. A last line that a killed process cut off is left out."""
    return [_RESULT.validate_json(line) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def arguments_of(cell: Cell) -> TrainArguments:
    """Return the arguments of a cell that is trained; arguments that its method does not use are left out."""
    prompt, _, readout = cell.line.partition("/")
    method = "head" if prompt == "none" else prompt
    if cell.line == AUTO_START:
        method = "spot" if cell.sources else "superpos"
    given: dict[str, Any] = {"method": method, "readout": readout}
    given |= used_arguments(dict(cell.arguments), method, readout)  # type: ignore[arg-type]
    given |= {"sources": cell.sources} if cell.sources else {}
    return train_arguments(given | {"seed": cell.seed})


def num_steps(result: CellResult) -> int | None:
    """Return how many optimiser steps a cell takes at most, without early stopping; None if it is not trained so."""
    if result.cell.line in BASELINES:
        return None
    arguments = arguments_of(result.cell)
    if arguments.method in ("head", "one_shot"):
        return None
    return arguments.num_steps(math.ceil(result.rows["train"] / arguments.batch_size))


class GridFile:
    """Runs cells and appends their results to the grid's file."""

    def __init__(
        self,
        path: Path,
        backbone: Backbone,
        tasks: Mapping[str, TaskFile],
        *,
        precision: Precision,
        say: Callable[[str], None],
    ) -> None:
        self._path, self._tasks = path, tasks
        self._scorer, self._say = Scorer(backbone), say
        self._precision: Precision = precision
        self._rows: dict[str, TaskRows] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def run(self, cells: Iterable[Cell]) -> int:
        """Run the cells that have no result, those of the same rows in one stack; returns how many failed.

        Cells with more shots than a label has rows are left out, and do not count as failed.
        """
        known = {result.cell for result in read_results(self._path)}
        atomic_write({self._path: "".join(_whole_lines(self._path)).encode()})
        left = [cell for cell in cells if cell not in known]
        failed = 0
        stacks = [list(group) for _, group in groupby(left, key=_same_rows)]
        for number, together in enumerate(stacks, start=1):
            first = together[0]
            shots = "" if first.shots is None else f", {first.shots} rows per label"
            self._say(f"{number} of {len(stacks)}: {first.set}, seed {first.seed}{shots}, {len(together)} cells")
            try:
                rows = self._divided(first)
            except TooFewRows as exc:
                self._say(f"  left out: {exc}")
                continue
            for cell in together:
                if cell.line in BASELINES:
                    self._keep(self._baseline(cell, rows))
            trained = [cell for cell in together if cell.line not in BASELINES]
            own = [cell for cell in trained if arguments_of(cell).method in OWN_MODEL]
            failed += self._train([cell for cell in trained if cell not in own], rows, precision=self._precision)
            failed += self._train(own, rows, precision="fp32")
        return failed

    def _divided(self, cell: Cell) -> RunRows:
        if cell.set not in self._rows:
            self._rows[cell.set] = TaskRows(self._scorer.backbone, self._tasks[cell.set])
        return self._rows[cell.set].divided(
            split="honest",
            seed=cell.seed,
            limit=cell.limit,
            shots=cell.shots,
            max_selection=cell.max_selection,
            max_report=cell.max_report,
        )

    def _baseline(self, cell: Cell, rows: RunRows) -> CellResult:
        began_s = time.monotonic()
        task = self._tasks[cell.set]
        (fitted,) = self._scorer.baselines.answers(rows.for_baselines, task, names=[BASELINES[cell.line]])
        (measured,) = compared(
            [fitted], fitted.answers, rows.report, num_labels=len(task.spec.labels), scoring=task.scoring
        )
        figures = measured.figures
        return CellResult(
            cell=cell,
            measure=" + ".join(task.metrics),
            score=figures["score"],
            low=figures["score_low"],
            high=figures["score_high"],
            metrics={name: figures[name] for name in task.metrics},
            selection_score=None,
            selection_loss=None,
            rows=_counts(rows),
            seconds=round(time.monotonic() - began_s, 2),
            commit=commit(),
        )

    def _train(self, cells: Sequence[Cell], rows: RunRows, *, precision: Precision) -> int:
        if not cells:
            return 0
        failed = []
        said_s = time.monotonic()

        def on_event(number: int, event: Event) -> None:
            nonlocal said_s
            if isinstance(event, StepEvent) and time.monotonic() - said_s > SAY_EVERY_S:
                self._say(f"  step {event.step} of {event.num_steps}")
                said_s = time.monotonic()
            if isinstance(event, FailEvent):
                failed.append(number)
                self._say(f"  {cells[number].line} failed: {event.reason}")

        with tempfile.TemporaryDirectory(prefix="superpos-grid-") as scratch:
            train_runs(
                self._scorer.backbone,
                [
                    RunPlan(
                        task=self._tasks[cell.set],
                        arguments=arguments_of(cell),
                        folder=Path(scratch) / str(number),
                        rows=rows,
                        precision=precision,
                        compare_precisions=False,
                        baselines=False,
                    )
                    for number, cell in enumerate(cells)
                ],
                on_event=on_event,
                on_report=lambda number, report: self._keep(_trained(cells[number], report, precision)),
                scorer=self._scorer,
                resumable=False,
                isolate_failures=True,
            )
        return len(failed)

    def _keep(self, result: CellResult) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        interval = f"({result.low:.3f} to {result.high:.3f})"
        self._say(f"  {result.cell.line:16s} {result.measure} {result.score:.3f} {interval}  {result.seconds:.0f} s")


def _trained(cell: Cell, report: RunReport, precision: Precision) -> CellResult:
    interval = report.measured.intervals["score"]
    selection = report.measured.selection
    return CellResult(
        cell=cell,
        measure=" + ".join(report.plan.task.metrics),
        score=report.trained.score,
        low=interval.low,
        high=interval.high,
        metrics={name: report.trained.values[name] for name in report.plan.task.metrics},
        selection_score=selection.score,
        selection_loss=selection.loss,
        rows=_counts(report.rows),
        seconds=round(report.seconds, 2),
        commit=commit(),
        steps_to_95=_steps_to_95(report.result),
        precision=precision,
        curve=tuple((event.step, round(event.metrics.score, 6)) for event in report.result.evaluations),
    )


def _steps_to_95(result: TrainResult) -> int:
    """Return the step of the first evaluation whose selection score is 95 % of the best one's, or more."""
    goal = 0.95 * result.best.score
    return next(event.step for event in result.evaluations if event.metrics.score >= goal)


def _counts(rows: RunRows) -> dict[str, int]:
    return {"train": len(rows.train), "selection": len(rows.selection), "report": len(rows.report)}


def _same_rows(cell: Cell) -> tuple[object, ...]:
    return cell.set, cell.seed, cell.shots, cell.limit, cell.max_selection, cell.max_report
