"""Scoring of a file as the console sees it: `scoring.upload` does it, where its packages are installed.

`scoring` is above the server, and reads files with pyarrow, which the server's image does not contain. So it is
imported when a page asks for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar, cast

from service.errors import QueueFull

T = TypeVar("T")
MAX_RUNS, MAX_RUNS_PER_TENANT = 4, 2
"""Files that a process reads or scores at once."""
MAX_ROWS = 20_000
"""Rows of a file that the console scores; `superpos score` has no such limit."""


SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of the names of the files that are read."""


class Refused(Exception):
    """The file or what is asked of it; the message is for the person who sent it."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of a file."""

    columns: Sequence[str]
    num_rows: int
    rows: Sequence[Sequence[str]]
    """The first rows as text, in the order of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to score a file."""

    ref: str
    columns: Mapping[str, str]
    """The column of each of the task's fields."""
    label_column: str | None
    """The right labels, to compare with."""
    label_values: Mapping[str, str]
    """The label that a value of that column means, where it is not a label's name."""
    truncate: str
    scores: bool
    """Whether to write the probability of every label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongRow:
    """A row whose answer differs from its label."""

    place: str
    right: str
    given: str
    score: float
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Answers compared with right labels."""

    num_rows: int
    num_wrong: int
    num_unlabelled: int
    example: str
    """Why the first of the unlabelled rows is one."""
    num_abstained: int
    figures: Sequence[tuple[str, str, float | None]]
    """Title, value with its interval, and the best constant answer."""
    labels: Sequence[tuple[str, float, float, float, int]]
    """Name, precision, recall, F1 and rows of each label."""
    confused: Sequence[tuple[str, str, int]]
    """Right label, given label and rows, the most frequent first."""
    worst: Sequence[WrongRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A scored file."""

    file: Path
    rejected: Path | None
    """Rows without an answer, with the reasons."""
    version: int
    num_rows: int
    num_rejected: int
    added: Sequence[str]
    """Names of the new columns."""
    compared: Compared | None


Send = Callable[[str, str, Mapping[str, str], bytes], tuple[int, Mapping[str, str], bytes]]
"""Sends a request to the API: method, path with query, headers and body; returns status, headers and body. Blocks."""


class FileScoring(Protocol):
    """Reads and scores files. Its functions block."""

    def preview(self, path: Path) -> Preview:
        """Read the beginning of a file (`Refused`)."""
        ...

    def score(self, path: Path, asked: Asked, *, send: Send, on_rows: Callable[[int], None]) -> Scored:
        """Score a file; write the result next to it.

        Args:
            path: the file
            asked: what to do
            send: sends requests to the API
            on_rows: receives numbers of rows that have their answers; an exception of it ends the work

        Raises:
            Refused: the file, or the server refuses it
        """
        ...


def can_score_files() -> bool:
    """Return whether the packages that score files are installed."""
    return find_spec("scoring") is not None and find_spec("pyarrow") is not None


def file_scoring() -> FileScoring:
    """Return what scores files (`ModuleNotFoundError` if a package of it is not installed). Takes a second, once."""
    return cast("FileScoring", import_module("scoring.upload"))


class ScoringRuns:
    """Threads of their own for files, a few per process: the work of one takes minutes. Belongs to the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_RUNS, thread_name_prefix="superpos-score")
        self._running: Counter[str] = Counter()

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Run work on a file in a thread, in the caller's context.

        Raises:
            QueueFull: as many files as allowed are worked on, of this tenant or of all
        """
        if self._running[tenant] >= MAX_RUNS_PER_TENANT or self._running.total() >= MAX_RUNS:
            raise QueueFull(
                f"{self._running[tenant]} files of this tenant and {self._running.total()} in all are being read or "
                f"scored; at most {MAX_RUNS_PER_TENANT} and {MAX_RUNS} may be: try again in a moment",
                retry_after_s=5,
            )
        self._running[tenant] += 1
        done = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        done.add_done_callback(lambda _: self._end(tenant))
        return await asyncio.shield(done)  # a thread whose person has left still holds its place

    def _end(self, tenant: str) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
