"""The plan of `classify_many`: which rows go into which request, when, and what its outcome means. No I/O.

Rows are read in order, packed into requests and answered in order; at most `LOOKAHEAD` × concurrency requests are in
memory. The number of requests on their way adapts to 429 and 504: it halves at a refusal and grows by one per round of
successes (AIMD; Chiu and Jain 1989, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance").
A request that is refused because of rows is sent again without them, and one at which the server fails is sent again in
halves, down to the row that it fails at.
"""

import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from superpos_client.answers import Limits, Prediction, check_size, encode_row
from superpos_client.errors import (
    DeadlineExceeded,
    Invalid,
    InvalidAnswer,
    RateLimited,
    ServerFault,
    SuperposError,
    Unavailable,
)

Outcome = Prediction | SuperposError
OnWait = Callable[[float, SuperposError], None]

LOOKAHEAD = 4
"""Requests in memory per request on its way: while the oldest is retried, later ones are still sent."""
DEFAULT_CONCURRENCY = 8
DEFAULT_PATIENCE_S = 600.0
_ROW_CODES = frozenset({"invalid_input", "text_too_long", "body_too_large", "inference_failed"})
"""Codes of refusals that a single row can cause."""
MAX_FAULTS = 32
"""Failures of the server without an answered request between them, after which no row is searched for."""
_ROW = re.compile(r"inputs\[(\d+)\]")
_LOCATION = re.compile(r"body\.inputs\.(\d+)(\.|$)")


class Window:
    """The number of requests that may be on their way."""

    def __init__(self, most: int) -> None:
        self._most, self._size, self._cut_at = most, float(most), 0.0

    @property
    def size(self) -> int:
        return int(self._size)

    def succeeded(self) -> None:
        self._size = min(float(self._most), self._size + 1 / self._size)

    def refused(self, *, sent_at: float, now: float) -> None:
        """Halve the window, once for all requests that were on their way together."""
        if sent_at >= self._cut_at:
            self._size, self._cut_at = max(1.0, self._size / 2), now


@dataclass(slots=True)
class Batch:
    """Rows that are sent together, until each has its outcome."""

    first: int
    """Index of the first row in the stream."""
    outcomes: list[Outcome | None]
    rows: dict[int, bytes]
    """Rows that can be sent, as JSON, by their place in the batch."""
    parts: list[list[int]] = field(default_factory=list)
    """Places that are still to be answered, by request; the next request is the last."""
    is_sent: bool = False

    @property
    def is_done(self) -> bool:
        return not self.parts and not self.is_sent


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One request of a batch."""

    batch: Batch
    places: list[int]
    sent_at: float

    @property
    def rows(self) -> list[bytes]:
        return [self.batch.rows[place] for place in self.places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a stream is sent (`ValueError` for a number below 1)."""

    chunk: int | None = None
    """Rows per request; by default a quarter of what the server accepts, so that several are on their way and one that
    fails costs little."""
    concurrency: int = DEFAULT_CONCURRENCY
    """Most requests on their way."""
    patience_s: float = DEFAULT_PATIENCE_S
    """Seconds without any answered request after which 429 is an error."""
    pin: bool = False
    """Wait for the first answer before other requests are sent, so that its version can be named."""
    raises: bool = False
    """End at the first error."""
    on_wait: OnWait | None = None
    """Called with the seconds and the error for which sending pauses."""

    def __post_init__(self) -> None:
        for name, value in (("chunk", self.chunk), ("concurrency", self.concurrency)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")


class Stream:
    """The state of one `classify_many`. The caller sends its requests and reports what becomes of them."""

    def __init__(self, limits: Limits, plan: Plan, *, max_bytes: int) -> None:
        """Begin.

        Args:
            limits: the server's
            plan: what the caller asked for
            max_bytes: room for the rows in a request's body
        """
        most = limits.max_rows_per_request
        self._max_rows = max(1, most // 4) if plan.chunk is None else min(plan.chunk, most)
        self._max_bytes = max_bytes
        self._window, self._most_batches = Window(plan.concurrency), LOOKAHEAD * plan.concurrency
        self._plan, self._pins = plan, plan.pin
        self._batches: deque[Batch] = deque()
        self._to_send: deque[Batch] = deque()
        self._open: Batch | None = None
        self._open_bytes = 0
        self._num_rows = self._num_sent = self._num_faults = 0
        self._sending_from = 0.0
        self._answered_at: float | None = None
        self._has_all_rows = False

    @property
    def wants_rows(self) -> bool:
        """Whether the next row should be read: there is a place for it and nothing else to send."""
        has_room = len(self._batches) < self._most_batches and self._num_sent < self._window_size
        return has_room and not self._has_all_rows and not self._to_send

    @property
    def is_done(self) -> bool:
        """Whether every row has been read and taken."""
        return self._has_all_rows and not self._batches and self._open is None

    def add(self, row: object) -> None:
        """Add the next row. One that cannot be sent has its error at once."""
        try:
            encoded = encode_row(row)
            check_size(encoded, self._max_bytes)
        except SuperposError as error:
            self._place(None, error.of_row(self._num_rows))
            return
        if self._open is not None and self._open_bytes + len(encoded) + 1 > self._max_bytes:
            self._close()
        self._place(encoded, None)

    def end(self) -> None:
        """Report that there are no more rows."""
        self._has_all_rows = True
        self._close()

    def next_request(self, now: float) -> Request | None:
        """Return the request to send now, if any."""
        if not self._to_send or self._num_sent >= self._window_size or now < self._sending_from:
            return None
        batch = self._to_send.popleft()
        batch.is_sent = True
        self._num_sent += 1
        if self._answered_at is None:
            self._answered_at = now  # patience begins with the first request
        return Request(batch, batch.parts.pop(), now)

    def wait_s(self, now: float) -> float | None:
        """Return the seconds after which `next_request` has one again; None if only an answer changes that."""
        return self._sending_from - now if self._to_send and self._sending_from > now else None

    def answered(self, request: Request, predictions: Sequence[Prediction], now: float) -> None:
        """Take the answer to a request."""
        self._window.succeeded()
        self._answered_at, self._pins, self._num_faults = now, False, 0
        for place, prediction in zip(request.places, predictions, strict=True):
            request.batch.outcomes[place] = prediction
        self._ended(request.batch)

    def failed(self, request: Request, error: SuperposError, now: float) -> None:
        """Take the error of a request, which was retried already.

        Raises:
            SuperposError: no row could be answered, for example an unknown task or a wrong key
        """
        if isinstance(error, RateLimited | DeadlineExceeded):
            self._window.refused(sent_at=request.sent_at, now=now)
        if isinstance(error, RateLimited):
            self._pause(request, error, now)
        elif faulty := self._faulty(error, len(request.places)):
            self._without(request, faulty, error)
        elif isinstance(error, Unavailable | DeadlineExceeded | ServerFault | InvalidAnswer):
            self._refuse(request.batch, request.places, error)
        else:
            raise error
        self._ended(request.batch)

    def take(self) -> Iterator[Outcome]:
        """Yield the outcomes that are next in order.

        Raises:
            SuperposError: the next outcome is an error, and the stream raises them
        """
        while self._batches and self._batches[0].is_done:
            batch = self._batches.popleft()
            for outcome in batch.outcomes:
                assert outcome is not None
                if isinstance(outcome, SuperposError) and self._plan.raises:
                    outcome.add_note(f"row {outcome.row}")
                    raise outcome
                yield outcome

    @property
    def _window_size(self) -> int:
        return 1 if self._pins else self._window.size

    def _place(self, encoded: bytes | None, error: SuperposError | None) -> None:
        if self._open is None:
            self._open, self._open_bytes = Batch(self._num_rows, [], {}), 0
        if encoded is not None:
            self._open.rows[len(self._open.outcomes)] = encoded
            self._open_bytes += len(encoded) + 1
        self._open.outcomes.append(error)
        self._num_rows += 1
        if len(self._open.outcomes) == self._max_rows:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            if self._open.rows:
                self._open.parts.append(list(self._open.rows))
                self._to_send.append(self._open)
            self._batches.append(self._open)
            self._open = None

    def _ended(self, batch: Batch) -> None:
        batch.is_sent = False
        self._num_sent -= 1
        if batch.parts:
            self._to_send.appendleft(batch)  # before later rows

    def _pause(self, request: Request, error: RateLimited, now: float) -> None:
        """Send the request again later, as if it had not been sent: a busy server did no work for it."""
        wait_s = 1.0 if error.retry_after_s is None else error.retry_after_s
        assert self._answered_at is not None
        if now + wait_s - self._answered_at > self._plan.patience_s:
            raise error
        request.batch.parts.append(request.places)
        # spread over the time of one more wait's tenth, so that clients of one server do not return together
        until = now + wait_s * random.uniform(1, 1.1)
        if until > self._sending_from:
            self._sending_from = until
            if self._plan.on_wait is not None:
                self._plan.on_wait(wait_s, error)

    def _faulty(self, error: SuperposError, num_rows: int) -> list[int]:
        """Return the indices of the rows that caused a refusal, or perhaps a failure of the server."""
        faulty = _faulty(error, num_rows)
        if faulty or not isinstance(error, ServerFault):
            return faulty
        self._num_faults += 1
        return _some(num_rows) if self._num_faults <= MAX_FAULTS else []

    def _without(self, request: Request, faulty: list[int], error: SuperposError) -> None:
        """Refuse the faulty rows and send the others again; without a known place, halve the request."""
        places = request.places
        if faulty == _UNKNOWN:
            if len(places) == 1:
                self._refuse(request.batch, places, error)
            else:
                middle = len(places) // 2
                request.batch.parts += [places[middle:], places[:middle]]
            return
        self._refuse(request.batch, [places[index] for index in faulty], error)
        if left := [place for index, place in enumerate(places) if index not in faulty]:
            request.batch.parts.append(left)

    @staticmethod
    def _refuse(batch: Batch, places: Sequence[int], error: SuperposError) -> None:
        for place in places:
            batch.outcomes[place] = error.of_row(batch.first + place)


_UNKNOWN = [-1]


def _faulty(error: SuperposError, num_rows: int) -> list[int]:
    """Return the indices of the rows that caused a refusal: `_UNKNOWN` if some did, empty if none did."""
    found = {int(match[1]) for each in error.errors if (match := _LOCATION.match(each.location))}
    if error.code in _ROW_CODES and (match := _ROW.match(error.detail)):
        found.add(int(match[1]))
    if found and max(found) < num_rows:
        return sorted(found)
    if error.code not in _ROW_CODES and not (isinstance(error, Invalid) and found):
        return []
    return _some(num_rows)


def _some(num_rows: int) -> list[int]:
    return [0] if num_rows == 1 else _UNKNOWN
