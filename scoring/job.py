"""A job: inputs scored part by part, so that an interruption loses at most the part in progress.

Each part is written under a temporary name and renamed; the parts of a file are joined when all are there, and the
output is renamed into its place. What is on the disk is therefore whole, and a second run continues with what is
missing. A row's answer does not depend on its neighbours (in fp32 to the bit), so the output is the same either way.
"""

import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from scoring.errors import InvalidInput, Mismatch, OutputInUse
from scoring.files.opening import Reading, open_input
from scoring.files.part import AddedColumn, InputFile, InputRow, Part
from scoring.manifest import BackboneRecord, FileRecord, Manifest, OptionsRecord, TaskRecord
from scoring.outputs import Output, OutputFile
from scoring.scorer import Answered, Scorer
from scoring.tasks import AnswerColumn, Outcome, Refusal, all_columns, check_names
from superpos_client import DeadlineExceeded, InvalidAnswer, RateLimited, ServerFault, SuperposError, Unavailable

TRANSIENT = (DeadlineExceeded, InvalidAnswer, RateLimited, ServerFault, Unavailable)
"""Errors after which the server may answer again."""
_FIRST_WAIT_S, _MAX_WAIT_S = 1.0, 30.0
_PROBE_ROWS, _PROBE_SHARE = 512, 4
"""Rows of a trial: at most, and as a part of all."""
_PROBE_S = 2.0
_GAP_S = 0.005
"""Pause after which the next row belongs to another answer."""


class Watcher(Protocol):
    """Receives the progress of a job."""

    def scored(self, rows: int) -> None:
        """Take rows that have their answers, though they are not saved yet; a negative number must be scored again."""

    def finished(self, name: str, record: FileRecord) -> None:
        """Take an output that is in its place."""

    def waiting(self, seconds: float, error: SuperposError) -> None:
        """Take the error of a server, busy or away, that is asked again after some seconds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The size of a job, and how long it is going to take."""

    num_files: int
    num_rows: int
    """Rows that are left."""
    rows_per_s: float | None
    """The rate of a short trial; None without one."""

    @property
    def seconds(self) -> float | None:
        return None if not self.rows_per_s else self.num_rows / self.rows_per_s


@dataclass(slots=True)
class _Progress:
    """Parts that were read, until they are saved."""

    waiting: deque[tuple[OutputFile, Part[Any] | None]] = field(default_factory=deque)
    """With None after the last part of a file."""
    answered: list[Answered] = field(default_factory=list)
    """Rows of the first part."""


class Job:
    """Inputs, tasks and an output."""

    def __init__(self, scorer: Scorer, inputs: Mapping[str, Path], output: Output, reading: Reading) -> None:
        """Read each input once, to count its rows and hash it.

        Raises:
            InvalidInput: an input cannot be read, or does not fit the tasks
        """
        self._scorer, self._output = scorer, output
        self.columns: list[list[AnswerColumn]] = all_columns(scorer.tasks, scorer.options)
        self._files = {name: _checked(path, reading, scorer, self.columns) for name, path in inputs.items()}
        if not any(file.contents.num_rows for file in self._files.values()):
            raise InvalidInput(f"no rows in {', '.join(map(str, list(inputs.values())[:5]))}")
        self.manifest = self._manifest(reading)
        self._num_saved = 0

    @property
    def added(self) -> list[AddedColumn]:
        """The columns of all tasks."""
        return [column.added for columns in self.columns for column in columns]

    @contextmanager
    def opened(self, *, restart: bool) -> Iterator[None]:
        """Take the output for this job, and read what an earlier run finished.

        Args:
            restart: remove what is there

        Raises:
            Mismatch: the output is another job's
            OutputInUse: another process scores into it
        """
        work = self._output.work
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as exc:
            raise OutputInUse(f"another process scores into {self._output.path}") from exc
        try:
            if restart:
                self._remove()
            self._resume()
            self.manifest.write(self._output.manifest)
            yield
            if not self.left:
                shutil.rmtree(work)
        finally:
            lock.release()
            if work.is_dir() and not any(path.name != "lock" for path in work.iterdir()):
                shutil.rmtree(work)

    @property
    def left(self) -> list[str]:
        """The names of the outputs that are not finished."""
        return [name for name in self._files if self.manifest.files[name].state != "finished"]

    @property
    def outputs(self) -> dict[str, FileRecord]:
        """The records of this job's inputs, by the names of their outputs."""
        return {name: self.manifest.files[name] for name in self._files}

    def num_left(self) -> int:
        """Return the number of rows that are not saved."""
        files = map(self._in_progress, self.left)
        return sum(file.file.contents.num_rows - sum(file.saved.values()) for file in files)

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run has saved some rows."""
        return self.num_left() < sum(file.contents.num_rows for file in self._files.values())

    def estimate(self, *, trial: bool) -> Estimate:
        """Count the rows that are left.

        Args:
            trial: also score some of them for two seconds, without saving them
        """
        num_rows = self.num_left()
        return Estimate(len(self.left), num_rows, self._rate(num_rows) if trial else None)

    def _rate(self, num_rows: int) -> float | None:
        """Return the rows/s of a trial. Answers arrive request by request: between the first and the last arrival."""
        rows = islice(self._rows(_Progress()), min(_PROBE_ROWS, num_rows // _PROBE_SHARE))
        began = time.monotonic()
        arrivals: list[tuple[float, int]] = []  # of requests: when, and the rows before
        last, number = began, 0
        with closing(self._scorer.answers(rows)) as answers:
            for number, _ in enumerate(answers, start=1):
                now = time.monotonic()
                if not arrivals or now - last > _GAP_S:
                    arrivals.append((now, number - 1))
                    if now - began > _PROBE_S:
                        break
                last = now
        if len(arrivals) < 2:
            return number / max(1e-6, last - began) if number else None
        (first, _), (latest, before) = arrivals[0], arrivals[-1]
        return before / (latest - first)

    def run(self, watcher: Watcher, *, patience_s: float = 600.0) -> None:
        """Score and save what is left.

        Args:
            watcher: of the progress
            patience_s: seconds without a saved part after which an error of the server is raised

        Raises:
            SuperposError: the server cannot answer; the same job resumes
        """
        wait_s, saved_at = _FIRST_WAIT_S, time.monotonic()
        while self.left:
            progress = _Progress()
            num_saved = self._num_saved
            try:
                self._run(progress, watcher)
            except TRANSIENT as exc:
                watcher.scored(-len(progress.answered))
                if self._num_saved > num_saved:
                    wait_s, saved_at = _FIRST_WAIT_S, time.monotonic()
                if time.monotonic() + wait_s - saved_at > patience_s:
                    raise
                if isinstance(exc, DeadlineExceeded):  # too much at a time for this server
                    self._scorer = replace(self._scorer, concurrency=max(1, self._scorer.concurrency // 2))
                watcher.waiting(wait_s, exc)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _MAX_WAIT_S)

    def _run(self, progress: _Progress, watcher: Watcher) -> None:
        for answered in self._scorer.answers(self._rows(progress), on_wait=watcher.waiting):
            self._save_complete(progress, watcher)
            progress.answered.append(answered)
            watcher.scored(1)
        self._save_complete(progress, watcher)

    def _rows(self, progress: _Progress) -> Iterator[InputRow]:
        """Yield the rows of all parts that are not saved."""
        columns = sorted({column for task in self._scorer.tasks for column in task.columns.values()})
        for name in self.left:
            file = self._in_progress(name)
            for part in file.file.parts(columns, skip=file.saved):
                progress.waiting.append((file, part))
                yield from part.rows
            progress.waiting.append((file, None))

    def _save_complete(self, progress: _Progress, watcher: Watcher) -> None:
        """Save the parts whose rows all have their answers, and finish files after their last part."""
        while progress.waiting:
            file, part = progress.waiting[0]
            if part is None:
                self._finish(file, watcher)
            elif len(progress.answered) == len(part.rows):
                self._save(file, part, progress.answered)
                progress.answered = []
            else:
                return
            progress.waiting.popleft()

    def _save(self, file: OutputFile, part: Part[Any], answered: Sequence[Answered]) -> None:
        values = [
            [_value(column, outcomes[number]) for _, outcomes in answered]
            for number, columns in enumerate(self.columns)
            for column in columns
        ]
        num_rows = len(part.rows) + len(part.unreadable)
        encoded = file.file.encode(part, self.added, values)
        file.save(part.number, num_rows, encoded, self._rejections(file, part, answered))
        self._num_saved += 1

    def _rejections(self, file: OutputFile, part: Part[Any], answered: Sequence[Answered]) -> bytes:
        """Return the lines of the side file, in the order of the rows."""
        path = str(file.file.path)
        lines: list[dict[str, object]] = [
            {"file": path, "place": row.place, "reason": row.reason, "row": row.text} for row in part.unreadable
        ]
        for row, outcomes in answered:
            for task, outcome in zip(self._scorer.tasks, outcomes, strict=True):
                if isinstance(outcome, Refusal):
                    shown = {"task": task.ref, "reason": outcome.reason, "row": dict(row.values)}
                    lines.append({"file": path, "place": row.place, **shown})
        lines.sort(key=lambda line: _number(str(line["place"])))
        return "".join(json.dumps(line, default=str) + "\n" for line in lines).encode()

    def _finish(self, file: OutputFile, watcher: Watcher) -> None:
        finished = file.finish(self.added)
        changes = {"state": "finished", "rejected": finished.num_rejected, "out_bytes": finished.num_bytes}
        record = self.manifest.files[file.name].model_copy(update=changes)
        self.manifest.files[file.name] = record
        self.manifest.write(self._output.manifest)
        file.remove_parts()
        watcher.finished(file.name, record)

    def _in_progress(self, name: str) -> OutputFile:
        return OutputFile(name, self._files[name], self._output)

    def _resume(self) -> None:
        """Take over what an earlier run of the same job finished."""
        begun = Manifest.read(self._output.manifest)
        if begun is None:
            self._remove_parts()  # of a run that was being restarted
            if there := next((path for path in map(self._output.file, self._files) if path.exists()), None):
                raise Mismatch(f"{there} exists and has no manifest; replace it with --restart, or name another --out")
            return
        if differences := self.manifest.differences(begun):
            raise Mismatch(
                f"cannot resume {self._output.path}, which another job began: {'; '.join(differences)}. "
                "Start again with --restart, or name another --out"
            )
        for name, record in begun.files.items():
            out = self._output.file(name)
            is_there = out.is_file() and out.stat().st_size == record.out_bytes
            if name not in self.manifest.files or (record.state == "finished" and is_there):
                self.manifest.files[name] = record

    def _remove(self) -> None:
        """Remove the outputs, the manifest and the parts of an earlier job."""
        self._output.manifest.unlink(missing_ok=True)
        for name in self._files:
            self._output.file(name).unlink(missing_ok=True)
            self._output.rejected(name).unlink(missing_ok=True)
        self._remove_parts()

    def _remove_parts(self) -> None:
        for path in self._output.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)

    def _manifest(self, reading: Reading) -> Manifest:
        scorer = self._scorer
        backbone = scorer.tasks[0].backbone
        options = scorer.options
        return Manifest(
            superpos=version("superpos"),
            tasks=tuple(
                TaskRecord(ref=task.ref, version=task.version, digest=task.digest, columns=dict(task.columns))
                for task in scorer.tasks
            ),
            backbone=BackboneRecord(
                id=str(backbone["id"]),
                fingerprint=str(backbone["fingerprint"]),
                precision=scorer.client.readiness().precision,
            ),
            options=OptionsRecord(
                truncate=options.truncate,
                scores=options.scores,
                prefix=options.prefix,
                separator=reading.separator,
                encoding=reading.encoding,
                part_rows=reading.part_rows,
                part_bytes=reading.part_bytes,
            ),
            files={name: _record(file) for name, file in self._files.items()},
        )


def _checked(path: Path, reading: Reading, scorer: Scorer, columns: Sequence[Sequence[AnswerColumn]]) -> InputFile[Any]:
    file = open_input(path, reading)
    if file.contents.columns:  # an empty JSONL file has none
        for task in scorer.tasks:
            task.check(file.contents, str(path))
    check_names(file.contents, [column for each in columns for column in each], str(path))
    return file


def _value(column: AnswerColumn, outcome: Outcome) -> object:
    return None if isinstance(outcome, Refusal) else column.value(outcome)


def _number(place: str) -> int:
    """Return the number in `line 7, column 3` or `row 7`."""
    return int(place.split()[1].rstrip(","))


def _record(file: InputFile[Any]) -> FileRecord:
    contents = file.contents
    return FileRecord(
        path=str(file.path.resolve()),
        size_bytes=file.path.stat().st_size,
        sha256=contents.sha256,
        rows=contents.num_rows,
    )
