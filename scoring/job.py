"""A job: inputs, tasks, and an output that is saved part by part, so that an interruption loses at most the parts in
progress.

Each part is written under a temporary name and renamed; the parts of a file are joined when all are there, and the
output is renamed into its place. What is on the disk is therefore whole, and a second run continues with what is
missing. A row's answer does not depend on its neighbours (in fp32 to the bit), so the output is the same either way,
and also the same wherever the rows are answered.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from scoring.encoding import EncodedPart, PartEncoder
from scoring.errors import InvalidInput, Mismatch, OutputInUse
from scoring.files.opening import Reading, open_input
from scoring.files.part import InputFile
from scoring.manifest import BackboneRecord, FileRecord, Manifest, OptionsRecord, TaskRecord
from scoring.outputs import Output, OutputFile
from scoring.tasks import AnswerOptions, ScoredTask, check_names
from superpos_client import SuperposError


class Watcher(Protocol):
    """Receives the progress of a run."""

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
    """The rate of a short trial, over all workers; None without one."""
    num_workers: int | None = None
    """Workers of a cluster; None for a server, or this process."""
    devices: int = 1
    """Cores of each worker, or its GPUs if it has any."""
    device: str = "core"

    @property
    def seconds(self) -> float | None:
        return None if not self.rows_per_s else self.num_rows / self.rows_per_s

    @property
    def device_hours(self) -> float | None:
        """Hours of cores or GPUs that a cluster works."""
        if self.seconds is None or self.num_workers is None:
            return None
        return self.seconds * self.num_workers * self.devices / 3_600


class Job:
    """Inputs, tasks and an output."""

    def __init__(
        self,
        tasks: Sequence[ScoredTask],
        options: AnswerOptions,
        inputs: Mapping[str, Path],
        output: Output,
        reading: Reading,
        *,
        precision: str,
    ) -> None:
        """Read each input once, to count its rows and hash it.

        Args:
            tasks: that answer
            options: of the answers
            inputs: by the names of their outputs
            output: where the outputs are
            reading: how the inputs are read
            precision: of the backbone that answers

        Raises:
            InvalidInput: an input cannot be read, or does not fit the tasks
        """
        self.tasks, self.options, self._output = tasks, options, output
        self.encoder = PartEncoder.of(tasks, options)
        self._files = {name: self._checked(path, reading) for name, path in inputs.items()}
        if not any(file.contents.num_rows for file in self._files.values()):
            raise InvalidInput(f"no rows in {', '.join(map(str, list(inputs.values())[:5]))}")
        self.manifest = self._manifest(reading, precision)
        self.num_saved = 0
        """Parts that this process has saved."""

    @property
    def read_columns(self) -> list[str]:
        """The input columns that the tasks read."""
        return sorted({column for task in self.tasks for column in task.columns.values()})

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

    def output_file(self, name: str) -> OutputFile:
        """Return an input with its saved parts."""
        return OutputFile(name, self._files[name], self._output)

    def num_left(self) -> int:
        """Return the number of rows that are not saved."""
        files = map(self.output_file, self.left)
        return sum(file.file.contents.num_rows - sum(file.saved.values()) for file in files)

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run has saved some rows."""
        return self.num_left() < sum(file.contents.num_rows for file in self._files.values())

    def save(self, name: str, part: EncodedPart) -> None:
        """Save a part of an output."""
        self.output_file(name).save(part.number, part.num_rows, part.data, part.rejected)
        self.num_saved += 1

    def finish(self, name: str, watcher: Watcher) -> None:
        """Join the parts of an output, all of which are saved, and put it in its place."""
        file = self.output_file(name)
        finished = file.finish(self.encoder.added)
        changes = {"state": "finished", "rejected": finished.num_rejected, "out_bytes": finished.num_bytes}
        record = self.manifest.files[name].model_copy(update=changes)
        self.manifest.files[name] = record
        self.manifest.write(self._output.manifest)
        file.remove_parts()
        watcher.finished(name, record)

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

    def _checked(self, path: Path, reading: Reading) -> InputFile[Any]:
        file = open_input(path, reading)
        if file.contents.columns:  # an empty JSONL file has none
            for task in self.tasks:
                task.check(file.contents, str(path))
        check_names(file.contents, [column for each in self.encoder.columns for column in each], str(path))
        return file

    def _manifest(self, reading: Reading, precision: str) -> Manifest:
        backbone, options = self.tasks[0].backbone, self.options
        return Manifest(
            superpos=version("superpos"),
            tasks=tuple(
                TaskRecord(ref=task.ref, version=task.version, digest=task.digest, columns=dict(task.columns))
                for task in self.tasks
            ),
            backbone=BackboneRecord(
                id=str(backbone["id"]), fingerprint=str(backbone["fingerprint"]), precision=precision
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


def _record(file: InputFile[Any]) -> FileRecord:
    contents = file.contents
    return FileRecord(
        path=str(file.path.resolve()),
        size_bytes=file.path.stat().st_size,
        sha256=contents.sha256,
        rows=contents.num_rows,
    )
