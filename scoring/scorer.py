"""Classifies rows by several tasks at once, in order."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

from scoring.encoding import Answered
from scoring.files.part import InputRow
from scoring.tasks import ROW_CODES, AnswerOptions, Outcome, Refusal, ScoredTask, refusal_of
from superpos_client import Client, Prediction, Row, ServerFault, SuperposError
from superpos_client.stream import DEFAULT_CONCURRENCY, OnWait

MAX_FAULTS = 10
"""Rows in succession at which a server fails, after which it has failed and not the rows."""
_Items = tuple[InputRow, list[Row | Refusal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """The tasks of a job on a server or an engine."""

    client: Client
    tasks: Sequence[ScoredTask]
    options: AnswerOptions
    concurrency: int = DEFAULT_CONCURRENCY
    """Requests at a time, of each task."""

    def answers(self, rows: Iterable[InputRow], *, on_wait: OnWait | None = None) -> Generator[Answered, None, None]:
        """Yield each row with its answers, in order; rows are read as they are needed.

        Each task has a stream of requests of its own, whose rows meet in the server's batches.

        Args:
            rows: the rows
            on_wait: called with the seconds and the error for which a busy server is waited for

        Raises:
            SuperposError: an error for which no row is the reason, such as a server that is away, or one that fails at
                `MAX_FAULTS` rows in succession or at all of them
        """
        prepared = ((row, [task.item(row) for task in self.tasks]) for row in rows)
        mine, *copies = tee(prepared, 1 + len(self.tasks))
        streams = [_Outcomes(self._stream(number, copy, on_wait)) for number, copy in enumerate(copies)]
        for row, items in mine:
            yield row, [stream.of(item) for item, stream in zip(items, streams, strict=True)]
        for stream in streams:
            stream.end()

    def _stream(
        self, number: int, prepared: Iterable[_Items], on_wait: OnWait | None
    ) -> Iterator[Prediction | SuperposError]:
        task = self.tasks[number]
        items = (items[number] for _, items in prepared)
        return self.client.classify_many(
            task.pinned,
            (item for item in items if not isinstance(item, Refusal)),
            on_error="return",
            truncate=self.options.truncate,
            top_k=len(task.spec.labels) if self.options.scores else 1,
            concurrency=self.concurrency,
            on_wait=on_wait,
        )


class _Outcomes:
    """The outcomes of one task's stream; separates rows that the server fails at from a server that has failed."""

    def __init__(self, stream: Iterator[Prediction | SuperposError]) -> None:
        self._stream = stream
        self._faults: list[ServerFault] = []
        """Since the last answer."""
        self._has_answered = False

    def of(self, item: Row | Refusal) -> Outcome:
        """Return the outcome of the next item, or raise the error for which no row is the reason."""
        if isinstance(item, Refusal):
            return item
        outcome = next(self._stream)
        if not isinstance(outcome, SuperposError):
            self._faults, self._has_answered = [], True
            return outcome
        if isinstance(outcome, ServerFault) and outcome.code not in ROW_CODES:
            self._faults.append(outcome)
            if len(self._faults) == MAX_FAULTS:
                raise outcome
        refusal = refusal_of(outcome)
        if refusal is None:
            raise outcome
        return refusal

    def end(self) -> None:
        """Raise the last failure of a server that has not answered any row."""
        if self._faults and not self._has_answered:
            raise self._faults[-1]
