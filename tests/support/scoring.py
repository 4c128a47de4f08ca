"""What tests of scored files build with: rows of every kind, and jobs on a server."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoring.files.opening import Reading
from scoring.inputs import find_inputs
from scoring.job import Job
from scoring.manifest import FileRecord
from scoring.outputs import output_of
from scoring.scorer import Scorer
from scoring.streaming import StreamedRun
from scoring.tasks import AnswerOptions, resolve_tasks
from superpos_client import Client, SuperposError

WORDS = ("gripping", "film", "quick", "brown", "fox", "over", "lazy", "dog", "city", "science")


def text_of(number: int) -> str:
    """A text of its own for each number."""
    return " ".join(WORDS[int(digit)] for digit in f"{number:04}")


def write_csv(path: Path, rows: int, *, column: str = "sentence") -> Path:
    """Rows with an id and a text."""
    lines = [f"id,{column}", *(f"{n},{text_of(n)}" for n in range(rows)), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Watching:
    """Notes what a job does, and interrupts it after a number of rows."""

    interrupt_after: int | None = None
    rows: int = 0
    files: list[str] = field(default_factory=list)
    waits: list[SuperposError] = field(default_factory=list)

    def scored(self, rows: int) -> None:
        self.rows += rows
        if self.rows == self.interrupt_after:
            raise KeyboardInterrupt

    def finished(self, name: str, record: FileRecord) -> None:  # noqa: ARG002 - of the protocol
        self.files.append(name)

    def waiting(self, seconds: float, error: SuperposError) -> None:  # noqa: ARG002 - of the protocol
        self.waits.append(error)


@contextmanager
def a_job(
    url: str,
    inputs: Sequence[Path],
    out: Path,
    *,
    refs: Sequence[str] = ("sentiment",),
    text: str | None = None,
    columns: dict[str, str] | None = None,
    part_rows: int = 10,
    max_retries: int = 3,
    **options: Any,
) -> Iterator[tuple[Job, StreamedRun]]:
    """A job on a server, not opened yet, and what scores it."""
    arguments = list(map(str, inputs))
    output = output_of(arguments, str(out))
    answers = AnswerOptions(**options)
    with Client(url, max_retries=max_retries) as client:
        tasks = resolve_tasks(client, refs, text=text, columns=columns or {})
        scorer = Scorer(client=client, tasks=tasks, options=answers, concurrency=2)
        job = Job(
            tasks,
            answers,
            find_inputs(arguments, output),
            output,
            Reading(part_rows=part_rows),
            precision=client.readiness().precision,
        )
        yield job, StreamedRun(job, scorer)


def score(url: str, inputs: Sequence[Path], out: Path, *, restart: bool = False, **options: Any) -> Watching:
    """Run a job to its end."""
    watching = Watching()
    with a_job(url, inputs, out, **options) as (job, run), job.opened(restart=restart):
        run.run(watching)
    return watching
