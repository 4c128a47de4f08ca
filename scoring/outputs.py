"""Outputs on the disk: parts under work, whole files in their places, and bad rows next to them.

Everything is written under a temporary name and renamed, so that whatever has its name is complete.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.atomic_files import atomic_write
from scoring.errors import InvalidInput
from scoring.files.part import AddedColumn, InputFile


@dataclass(frozen=True, slots=True)
class Output:
    """Where a job writes."""

    path: Path
    is_folder: bool

    @property
    def manifest(self) -> Path:
        """The file that says what the output is from."""
        return self.path / "_manifest.json" if self.is_folder else _with_end(self.path, ".manifest.json")

    @property
    def report(self) -> Path:
        """The page about the comparison with labels."""
        return self.path / "_report.html" if self.is_folder else _with_end(self.path, ".report.html")

    @property
    def work(self) -> Path:
        """Folder of the parts, removed at the end."""
        return self.path / "_parts" if self.is_folder else _with_end(self.path, ".parts")

    def file(self, name: str) -> Path:
        """Return the output of an input."""
        return self.path / name if self.is_folder else self.path

    def rejected(self, name: str) -> Path:
        """Return the file of an input's bad rows."""
        return _with_end(self.file(name), _REJECTED)


def output_of(inputs: Sequence[str], out: str) -> Output:
    """Return where the outputs are: a file for a single input file, else a folder.

    Raises:
        InvalidInput: the file's name says another format than the input's
    """
    path = Path(out)
    is_one = len(inputs) == 1 and Path(inputs[0]).is_file()
    if not is_one or out.endswith("/") or path.is_dir():
        if path.is_file():
            raise InvalidInput(f"--out {out} is a file, expected a folder for the outputs of several inputs")
        return Output(path, is_folder=True)
    suffix = Path(inputs[0]).suffix.lower()
    if path.suffix.lower() != suffix:
        raise InvalidInput(f"--out {out}: an output has its input's format, expected a name that ends with {suffix}")
    return Output(path, is_folder=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished output."""

    num_rejected: int
    """Lines of the side file."""
    num_bytes: int


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The output of one input, and the folder of its parts."""

    name: str
    file: InputFile[Any]
    output: Output

    @property
    def saved(self) -> dict[int, int]:
        """The number of rows of each part on the disk."""
        return {number: num_rows for number, num_rows, _ in self._parts()}

    def save(self, number: int, num_rows: int, data: bytes, rejected: bytes) -> None:
        """Save an encoded part and the lines of its bad rows."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files = {self._rejected(number): rejected} if rejected else {}
        # the part last: it counts as saved when it is there
        part = self._folder / f"{number:06d}.{num_rows}{self._suffix}"
        atomic_write({**files, part: data}, synced=True)

    def finish(self, added: Sequence[AddedColumn]) -> Finished:
        """Join the parts and move the output and its side file into their places; the parts stay."""
        out, rejected = self.output.file(self.name), self.output.rejected(self.name)
        parts = self._parts()
        self._folder.mkdir(parents=True, exist_ok=True)
        joined, joined_rejected = self._folder / "joined", self._folder / "joined.rejected"
        self.file.join([path for *_, path in parts], added, joined)
        num_rejected = _concatenate([self._rejected(number) for number, *_ in parts], joined_rejected)
        out.parent.mkdir(parents=True, exist_ok=True)
        if num_rejected:
            _move(joined_rejected, rejected)
        else:
            rejected.unlink(missing_ok=True)
        _move(joined, out)
        return Finished(num_rejected, out.stat().st_size)

    def remove_parts(self) -> None:
        """Remove the parts of a finished output."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.output.work / f"{self.name}.d"

    @property
    def _suffix(self) -> str:
        return self.file.path.suffix.lower()

    def _parts(self) -> list[tuple[int, int, Path]]:
        """Return number, rows and path of each part on the disk, in order."""
        names = [(path.name.split("."), path) for path in self._folder.glob(f"[0-9]*.[0-9]*{self._suffix}")]
        return sorted((int(number), int(num_rows), path) for (number, num_rows, _), path in names)

    def _rejected(self, number: int) -> Path:
        return self._folder / f"{number:06d}{_REJECTED}"


_REJECTED = ".rejected.jsonl"


def _concatenate(paths: Sequence[Path], out: Path) -> int:
    """Join the files that exist; return the number of their lines."""
    num_lines = 0
    with out.open("wb") as joined:
        for path in paths:
            if path.is_file():
                data = path.read_bytes()
                num_lines += data.count(b"\n")
                joined.write(data)
    return num_lines


def _move(path: Path, place: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(place)


def _with_end(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
