"""A job that the Python client scores, on a server or in this process: one stream over the rows of all parts."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from scoring.encoding import Answered
from scoring.files.part import InputRow, Part
from scoring.job import Estimate, Job, Watcher
from scoring.outputs import OutputFile
from scoring.scorer import Scorer
from superpos_client import DeadlineExceeded, InvalidAnswer, RateLimited, ServerFault, Unavailable

TRANSIENT = (DeadlineExceeded, InvalidAnswer, RateLimited, ServerFault, Unavailable)
"""Errors after which the server may answer again."""
_TRIAL_ROWS, _TRIAL_SHARE = 512, 4
"""Rows of a trial: at most, and as a part of all."""
_FIRST_WAIT_S, _MAX_WAIT_S = 1.0, 30.0
_TRIAL_S = 2.0
_GAP_S = 0.005
"""Pause after which the next row belongs to another answer."""


@dataclass(slots=True)
class _Progress:
    """Parts that were read, until they are saved."""

    waiting: deque[tuple[OutputFile, Part[Any] | None]] = field(default_factory=deque)
    """With None after the last part of a file."""
    answered: list[Answered] = field(default_factory=list)
    """Rows of the first part."""


class StreamedRun:
    """Scores what is left of a job through the client."""

    def __init__(self, job: Job, scorer: Scorer) -> None:
        """Take a job, and what answers its tasks."""
        self._job, self._scorer = job, scorer

    def estimate(self, *, trial: bool) -> Estimate:
        """Count the rows that are left.

        Args:
            trial: also score some of them for two seconds, without saving them
        """
        num_rows = self._job.num_left()
        rate = None
        if trial:
            rate = trial_rate(self._scorer.answers(trial_rows(unsaved_rows(self._job), num_rows)))
        return Estimate(len(self._job.left), num_rows, rate)

    def run(self, watcher: Watcher, *, patience_s: float = 600.0) -> None:
        """Score and save what is left.

        Args:
            watcher: of the progress
            patience_s: seconds without a saved part after which an error of the server is raised

        Raises:
            SuperposError: the server cannot answer; the same job resumes
        """
        job = self._job
        wait_s, saved_at = _FIRST_WAIT_S, time.monotonic()
        while job.left:
            progress = _Progress()
            num_saved = job.num_saved
            try:
                self._run(progress, watcher)
            except TRANSIENT as exc:
                watcher.scored(-len(progress.answered))
                if job.num_saved > num_saved:
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
        for name in self._job.left:
            file = self._job.output_file(name)
            for part in file.file.parts(self._job.read_columns, skip=file.saved):
                progress.waiting.append((file, part))
                yield from part.rows
            progress.waiting.append((file, None))

    def _save_complete(self, progress: _Progress, watcher: Watcher) -> None:
        """Save the parts whose rows all have their answers, and finish files after their last part."""
        while progress.waiting:
            file, part = progress.waiting[0]
            if part is None:
                self._job.finish(file.name, watcher)
            elif len(progress.answered) == len(part.rows):
                self._job.save(file.name, self._job.encoder.encode(file.file, part, progress.answered))
                progress.answered = []
            else:
                return
            progress.waiting.popleft()


def unsaved_rows(job: Job) -> Iterator[InputRow]:
    """Yield the rows that are left of a job."""
    for name in job.left:
        file = job.output_file(name)
        for part in file.file.parts(job.read_columns, skip=file.saved):
            yield from part.rows


def trial_rows(rows: Iterator[InputRow], num_rows: int) -> Iterator[InputRow]:
    """Return the first rows for a trial, of a number that is left."""
    return islice(rows, min(_TRIAL_ROWS, num_rows // _TRIAL_SHARE))


def trial_rate(answers: Generator[Answered, None, None]) -> float | None:
    """Return the rows/s of answers, for two seconds; None if there are none.

    Answers arrive request by request: the rate is that between the first and the last arrival.
    """
    began = time.monotonic()
    arrivals: list[tuple[float, int]] = []  # of requests: when, and the rows before
    last, number = began, 0
    with closing(answers):
        for number, _ in enumerate(answers, start=1):
            now = time.monotonic()
            if not arrivals or now - last > _GAP_S:
                arrivals.append((now, number - 1))
                if now - began > _TRIAL_S:
                    break
            last = now
    if len(arrivals) < 2:
        return number / max(1e-6, last - began) if number else None
    (first, _), (latest, before) = arrivals[0], arrivals[-1]
    return before / (latest - first)
