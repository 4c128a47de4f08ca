"""Answers compared with a column of right labels: metrics, confusion, calibration and the worst rows."""

import heapq
import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scoring.errors import InvalidInput
from scoring.files.opening import Reading, open_input
from scoring.files.part import InputRow
from scoring.tasks import AnswerColumn, ScoredTask
from training.data.examples import label_index, label_indices, with_class_names
from training.errors import InvalidData
from training.report.answers import LabelScores, count_pairs, label_scores
from training.scoring.bootstrap import Interval, intervals
from training.scoring.metrics import Metrics, measure_answers
from training.scoring.multi_label import LabelCounts
from training.task.scoring import METRIC_TITLES, MetricName
from training.task.task_file import DataSource, TaskFile

NUM_WORST = 50
_METRICS: Mapping[str, tuple[MetricName, ...]] = {"single_label": ("accuracy",), "ordinal": ("pearson", "spearman")}


@dataclass(frozen=True, slots=True, order=True)
class WorstRow:
    """A wrongly answered row."""

    score: float
    """The probability of the label that was given."""
    number: int
    """In the order of the rows, to break ties."""
    name: str = field(compare=False)
    """The output."""
    place: str = field(compare=False)
    right: str = field(compare=False)
    given: str = field(compare=False)
    fields: tuple[tuple[str, str], ...] = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric with its interval and the best value that a constant answer reaches."""

    title: str
    value: float
    interval: Interval | None = None
    constant: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.interval is None else f" ({self.interval})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """One task on the rows that have a right label and an answer."""

    ref: str
    version: int
    column: str
    num_rows: int
    num_wrong: int
    num_unlabelled: int
    """Rows whose label is missing, or not the task's."""
    example: str
    """Why the first of them was left out."""
    num_abstained: int
    figures: Sequence[Figure]
    labels: Sequence[LabelScores]
    worst: Sequence[WorstRow]
    """The surest wrong answers first."""
    matrix: NDArray[np.int64] | None = None  # [K, K]; None for a multi-label task
    confidence: NDArray[np.float64] | None = None  # [n]
    right: NDArray[np.bool_] | None = None  # [n]
    is_collapsed: bool = False


def evaluate(
    outputs: Mapping[str, Path],
    task: ScoredTask,
    columns: Sequence[AnswerColumn],
    *,
    label_column: str,
    label_values: Mapping[str, str],
    reading: Reading,
) -> Evaluation:
    """Compare a task's answers in finished outputs with a column of right labels.

    Args:
        outputs: by name
        task: the task
        columns: that the task added
        label_column: the right labels
        label_values: the label's name for each value of the column that is not a name
        reading: how the inputs were read

    Raises:
        InvalidInput: no row has a right label, or a file lacks the column
    """
    labels = TaskFile(
        name=task.task,
        spec=task.spec,
        metrics=_METRICS.get(task.spec.kind, ("micro_f1",)),
        data=DataSource(train="-", label=label_column, label_values=dict(label_values)),
    )
    names = {column.kind: column.added.name for column in columns}
    tally: _Tally = _DecisionTally(labels) if task.spec.is_multi_label else _AnswerTally(labels)
    kinds = ("label", "score", "labels", "abstained")
    read = [label_column, *task.columns.values(), *(names[kind] for kind in kinds if kind in names)]
    worst: list[WorstRow] = []
    num_rows = num_unlabelled = num_abstained = 0
    example = ""
    for name, path in outputs.items():
        # its quotes and separator are those of the input, its encoding is not
        file = open_input(path, Reading(separator=reading.separator))
        if label_column.partition(".")[0] not in {column.partition(".")[0] for column in file.contents.columns}:
            raise InvalidInput(f"{path} has no column {label_column!r} to compare with")
        of_file = with_class_names(labels, path)
        for part in file.parts(read):
            for row in part.rows:
                if row.values.get(names["label"]) in (None, ""):
                    continue  # in the side file
                try:
                    wrong = tally.add(row, names, of_file)
                except _Unlabelled as exc:
                    num_unlabelled += 1
                    example = example or f"{name}, {row.place}: {exc}"
                    continue
                num_rows += 1
                num_abstained += row.values[names["abstained"]] in (True, "true")
                if wrong is not None:
                    found = WorstRow(
                        _number(row.values[names["score"]]), -num_rows, name, row.place, *wrong, _fields(task, row)
                    )
                    (heapq.heappush if len(worst) < NUM_WORST else heapq.heappushpop)(worst, found)
    if not num_rows:
        raise InvalidInput(f"no row has a label to compare {task.ref} with: {example or 'no row has an answer'}")
    return tally.evaluation(
        ref=task.ref,
        version=task.version,
        column=label_column,
        num_rows=num_rows,
        num_unlabelled=num_unlabelled,
        num_abstained=num_abstained,
        example=example,
        worst=sorted(worst, reverse=True),
    )


class _Unlabelled(Exception):
    """A row without a usable label; the message says why."""


class _Tally(Protocol):
    """Counts of right and given labels."""

    def add(self, row: InputRow, names: Mapping[str, str], task: TaskFile) -> tuple[str, str] | None:
        """Count a row; return its right and its given label if they differ."""

    def evaluation(self, **known: Any) -> Evaluation:
        """Return the result."""


class _AnswerTally:
    """Counts of a task with one label per row."""

    def __init__(self, task: TaskFile) -> None:
        self._task, self._names = task, task.spec.label_names
        self._places = {name: index for index, name in enumerate(self._names)}
        self._labels, self._answers, self._scores = array("h"), array("h"), array("d")

    def add(self, row: InputRow, names: Mapping[str, str], task: TaskFile) -> tuple[str, str] | None:
        label = label_index(_label(row, task), task)
        if label is None:
            raise _Unlabelled(f"column {task.data.label!r} is {_label(row, task)!r}, expected a label of {task.name}")
        answer = self._places[str(row.values[names["label"]])]
        self._labels.append(label)
        self._answers.append(answer)
        self._scores.append(_number(row.values[names["score"]]))
        return None if answer == label else (self._names[label], self._names[answer])

    def evaluation(self, **known: Any) -> Evaluation:
        labels, answers = (np.frombuffer(each, np.int16).astype(np.int64) for each in (self._labels, self._answers))
        size, scoring = len(self._names), self._task.scoring
        metrics = measure_answers(answers, labels, num_labels=size, loss=math.nan, scoring=scoring)
        bounds = intervals(answers, labels, num_labels=size, scoring=scoring)
        matrix = count_pairs(answers, labels, size)
        return Evaluation(
            **known,
            num_wrong=int((answers != labels).sum()),
            figures=[_figure(name, metrics, bounds[name]) for name in scoring.measured],
            labels=label_scores(matrix, self._names),
            matrix=matrix,
            confidence=np.frombuffer(self._scores, np.float64),
            right=answers == labels,
            is_collapsed=metrics.collapsed,
        )


class _DecisionTally:
    """Counts of a multi-label task."""

    def __init__(self, task: TaskFile) -> None:
        self._names = task.spec.label_names
        self._places = {name: index for index, name in enumerate(self._names)}
        self._hits, self._given, self._wanted = (np.zeros(len(self._names), np.int64) for _ in range(3))
        self._num_rows = self._num_same = 0

    def add(self, row: InputRow, names: Mapping[str, str], task: TaskFile) -> tuple[str, str] | None:
        try:
            right = set(label_indices(_label(row, task), row.place, task))
        except InvalidData as exc:
            raise _Unlabelled(str(exc).removeprefix(f"{row.place}: ")) from exc
        cell = row.values[names["labels"]]
        listed: list[str] = json.loads(cell) if isinstance(cell, str) else list(cell if isinstance(cell, list) else ())
        given = {self._places[name] for name in listed}
        for counts, which in ((self._hits, right & given), (self._given, given), (self._wanted, right)):
            counts[list(which)] += 1
        self._num_rows += 1
        self._num_same += right == given
        return None if right == given else (self._shown(right), self._shown(given))

    def evaluation(self, **known: Any) -> Evaluation:
        counts = LabelCounts(*(each.astype(np.float64) for each in (self._hits, self._given, self._wanted)))
        precision, recall, f1 = counts.precision, counts.recall, counts.f1
        return Evaluation(
            **known,
            num_wrong=self._num_rows - self._num_same,
            figures=[
                Figure(title=METRIC_TITLES["micro_f1"], value=float(counts.micro_f1)),
                Figure(title=METRIC_TITLES["macro_f1"], value=float(counts.macro_f1)),
                Figure(title="exact match", value=self._num_same / self._num_rows),
            ],
            labels=[
                LabelScores(
                    name=name,
                    precision=float(precision[i]),
                    recall=float(recall[i]),
                    f1=float(f1[i]),
                    support=int(counts.wanted[i]),
                )
                for i, name in enumerate(self._names)
            ],
        )

    def _shown(self, which: Iterable[int]) -> str:
        return ", ".join(self._names[index] for index in sorted(which)) or "no label"


def _figure(name: MetricName, metrics: Metrics, interval: Interval) -> Figure:
    return Figure(
        title=METRIC_TITLES[name], value=metrics.values[name], interval=interval, constant=metrics.constants[name]
    )


def _label(row: InputRow, task: TaskFile) -> object:
    try:
        return row.cell(task.data.label)
    except KeyError as exc:
        raise _Unlabelled(f"no column {task.data.label!r}") from exc


def _fields(task: ScoredTask, row: InputRow) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(row.cell(column))) for name, column in task.columns.items())


def _number(cell: object) -> float:
    return float(str(cell))
