"""Files that people upload to the console: previewed and scored through the API, in a folder of their own.

A Parquet file is first rewritten as JSON Lines by a process with little memory (`parquet_lines`): some kilobytes of it
can hold gigabytes.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx2

from scoring.errors import ScoringError
from scoring.evaluation import Evaluation, evaluate
from scoring.files.opening import Reading, open_input
from scoring.files.part import InputFile
from scoring.job import Job
from scoring.manifest import FileRecord
from scoring.outputs import Output
from scoring.scorer import Scorer
from scoring.streaming import StreamedRun
from scoring.tasks import AnswerOptions, ScoredTask, all_columns, resolve_tasks
from service.console.file_scoring import MAX_ROWS, Asked, Compared, Preview, Refused, Scored, Send, WrongRow
from superpos_client import Client, SuperposError
from superpos_client.answers import Truncate
from training.errors import TrainingError

_PREVIEW_ROWS = 20
_PREFIXES = ("", "predicted_", "superpos_")
"""Beginnings of the new columns' names: the first that makes no name that the file has."""
_CONCURRENCY = 4
_PATIENCE_S = 30.0
_CONVERT_TIMEOUT_S = 60.0
_MAX_LINES_BYTES = 64 << 20
_MAX_CONFUSED = 20
_MAX_SCORES = 1_000_000


def preview(path: Path) -> Preview:
    """Read the beginning of a file (`Refused`)."""
    with _refusals(path.parent):
        file = _opened(path)
        columns = file.contents.columns
        part = next(iter(file.parts(columns)), None)
        rows = [] if part is None else part.rows[:_PREVIEW_ROWS]
        shown = [[_text(row.values.get(column)) for column in columns] for row in rows]
        return Preview(columns, file.contents.num_rows, shown)


def score(path: Path, asked: Asked, *, send: Send, on_rows: Callable[[int], None]) -> Scored:
    """Score a file, as the console's `FileScoring` says."""
    with _refusals(path.parent), _client(send) as client:
        source = _opened(path).path
        tasks = resolve_tasks(client, [asked.ref], text=None, columns=asked.columns)
        options = _without_collision(
            AnswerOptions(truncate=cast("Truncate", asked.truncate), scores=asked.scores), tasks, source
        )
        _check_size(asked, tasks[0], source)
        output = Output(source.with_name(f"scored{source.suffix}"), is_folder=False)
        job = Job(tasks, options, {source.name: source}, output, Reading(), precision=client.readiness().precision)
        with job.opened(restart=False):
            run = StreamedRun(job, Scorer(client=client, tasks=tasks, options=options, concurrency=_CONCURRENCY))
            run.run(_Watcher(on_rows), patience_s=_PATIENCE_S)
        [record] = job.outputs.values()
        compared = None
        if asked.label_column is not None:
            compared = _compared(
                evaluate(
                    {source.name: output.path},
                    tasks[0],
                    job.encoder.columns[0],
                    label_column=asked.label_column,
                    label_values=asked.label_values,
                    reading=Reading(),
                )
            )
        rejected = output.rejected(source.name)
        return Scored(
            file=output.path,
            rejected=rejected if rejected.is_file() else None,
            version=tasks[0].version,
            num_rows=record.rows,
            num_rejected=record.rejected,
            added=[column.name for column in job.encoder.added],
            compared=compared,
        )


def _check_size(asked: Asked, task: ScoredTask, path: Path) -> None:
    """Refuse to write the scores of many labels for many rows: the result is one response."""
    num_rows, num_labels = open_input(path, Reading()).contents.num_rows, len(task.spec.labels)
    if asked.scores and num_rows * num_labels > _MAX_SCORES:
        raise Refused(
            f"the probabilities of {num_labels:,} labels for {num_rows:,} rows are {num_rows * num_labels:,} numbers, "
            f"the console writes at most {_MAX_SCORES:,}; leave them out, or use superpos score --scores"
        )


class _Watcher:
    def __init__(self, on_rows: Callable[[int], None]) -> None:
        self.scored = on_rows

    def finished(self, name: str, record: FileRecord) -> None:
        pass

    def waiting(self, seconds: float, error: SuperposError) -> None:  # noqa: ARG002 - a `Watcher` gets them
        self.scored(0)


class _InProcess(httpx2.BaseTransport):
    """Sends a client's requests through a function."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"}
        status, sent, content = self._send(
            request.method, request.url.raw_path.decode("ascii"), headers, request.read()
        )
        return httpx2.Response(status, headers=dict(sent), content=content)


@contextmanager
def _client(send: Send) -> Iterator[Client]:
    with httpx2.Client(transport=_InProcess(send)) as http, Client("http://localhost", http_client=http) as client:
        yield client


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Raise what a person can do something about as `Refused`, without the place of the file here."""
    try:
        yield
    except (ScoringError, TrainingError, SuperposError) as exc:
        raise Refused(str(exc).replace(f"{folder}/", "")) from exc


def _opened(path: Path) -> InputFile[Any]:
    """Open a file within the console's bounds (`Refused`)."""
    source = path
    if path.suffix == ".parquet":
        source = path.with_suffix(".jsonl")
        if not source.exists():
            _rewrite(path, source)
    file = open_input(source, Reading())
    if file.contents.num_rows > MAX_ROWS:
        raise Refused(
            f"the file has {file.contents.num_rows:,} rows, the console scores at most {MAX_ROWS:,}; "
            "the command superpos score has no limit"
        )
    return file


def _rewrite(path: Path, lines: Path) -> None:
    bounds = [str(MAX_ROWS + 1), str(_MAX_LINES_BYTES)]
    command = [sys.executable, "-m", "scoring.parquet_lines", str(path), str(lines), *bounds]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CONVERT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise Refused(f"reading the Parquet file took more than {_CONVERT_TIMEOUT_S:g} s") from exc
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it takes too much memory"])[-1]
        raise Refused(f"not a Parquet file that the console can read: {reason[:300]}")


def _without_collision(options: AnswerOptions, tasks: list[ScoredTask], path: Path) -> AnswerOptions:
    present = set(open_input(path, Reading()).contents.columns)
    for prefix in _PREFIXES:
        tried = replace(options, prefix=prefix)
        if not present & {column.added.name for columns in all_columns(tasks, tried) for column in columns}:
            return tried
    return options  # the job says which name is taken


def _compared(found: Evaluation) -> Compared:
    return Compared(
        num_rows=found.num_rows,
        num_wrong=found.num_wrong,
        num_unlabelled=found.num_unlabelled,
        example=found.example,
        num_abstained=found.num_abstained,
        figures=[(figure.title, str(figure), figure.constant) for figure in found.figures],
        labels=[(each.name, each.precision, each.recall, each.f1, each.support) for each in found.labels],
        confused=_confused(found),
        worst=[
            WrongRow(place=row.place, right=row.right, given=row.given, score=row.score, fields=dict(row.fields))
            for row in found.worst
        ],
    )


def _confused(found: Evaluation) -> list[tuple[str, str, int]]:
    if found.matrix is None:
        return []
    names = [each.name for each in found.labels]
    pairs = [
        (names[right], names[given], int(rows))
        for right, line in enumerate(found.matrix)
        for given, rows in enumerate(line)
        if right != given and rows
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:_MAX_CONFUSED]


def _text(value: object) -> str:
    return "" if value is None else str(value)
