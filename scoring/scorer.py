"""Classifies rows by several tasks at once, in order."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

from scoring.files.part import InputRow
from scoring.tasks import AnswerOptions, Outcome, Refusal, ScoredTask, refusal_of
from superpos_client import Client, Prediction, Row, SuperposError
from superpos_client.stream import DEFAULT_CONCURRENCY

Answered = tuple[InputRow, list[Outcome]]
"""A row, and what each task answers."""
_Items = tuple[InputRow, list[Row | Refusal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """The tasks of a job on a server or an engine."""

    client: Client
    tasks: Sequence[ScoredTask]
    options: AnswerOptions
    concurrency: int = DEFAULT_CONCURRENCY
    """Requests at a time, of each task."""

    def answers(self, rows: Iterable[InputRow]) -> Generator[Answered, None, None]:
        """Yield each row with its answers, in order; rows are read as they are needed.

        Each task has a stream of requests of its own, whose rows meet in the server's batches.

        Raises:
            SuperposError: an error for which no row is the reason, such as a server that is away
        """
        prepared = ((row, [task.item(row) for task in self.tasks]) for row in rows)
        mine, *copies = tee(prepared, 1 + len(self.tasks))
        streams = [self._stream(number, copy) for number, copy in enumerate(copies)]
        for row, items in mine:
            yield row, [_outcome(item, stream) for item, stream in zip(items, streams, strict=True)]

    def _stream(self, number: int, prepared: Iterable[_Items]) -> Iterator[Prediction | SuperposError]:
        task = self.tasks[number]
        items = (items[number] for _, items in prepared)
        return self.client.classify_many(
            task.pinned,
            (item for item in items if not isinstance(item, Refusal)),
            on_error="return",
            truncate=self.options.truncate,
            top_k=len(task.spec.labels) if self.options.scores else 1,
            concurrency=self.concurrency,
        )


def _outcome(item: Row | Refusal, stream: Iterator[Prediction | SuperposError]) -> Outcome:
    if isinstance(item, Refusal):
        return item
    outcome = next(stream)
    if not isinstance(outcome, SuperposError):
        return outcome
    refusal = refusal_of(outcome)
    if refusal is None:
        raise outcome
    return refusal
