"""When a call is repeated, after how long, and until when. Pure but for the clock."""

import random
import threading
import time
from dataclasses import dataclass
from typing import Literal, Self

from superpos_client.errors import (
    DeadlineExceeded,
    InvalidAnswer,
    RateLimited,
    ServerFault,
    SuperposError,
    Unavailable,
    Unreachable,
)

Repeat = Literal["always", "unsent"]
"""`always`: the call may run twice (it reads or classifies). `unsent`: only if the server did not begin it."""

NOT_CONNECTED = "not_connected"
"""Code of an error before anything was sent."""
BROKEN_OFF = "broken_off"
"""Code of an error in place of a complete answer."""
INVALID_ANSWER = "invalid_answer"
"""Code of an answer that cannot be read."""
_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 8.0
_SHARE = 0.1
_RESERVE = 10.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a call, over all of its tries."""

    at: float
    """On the clock of `time.monotonic`."""
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Self:
        """Return the deadline of a call that begins now."""
        if not timeout_s > 0:
            raise ValueError(f"timeout is {timeout_s!r}, expected a number of seconds above 0")
        return cls(time.monotonic() + timeout_s, timeout_s)

    @property
    def remaining_s(self) -> float:
        return self.at - time.monotonic()

    def remaining_ms(self, most: int) -> int:
        """Return what is left for a server, from 1 to `most` ms."""
        return max(1, min(most, int(1_000 * self.remaining_s)))

    def exceeded(self, address: str) -> DeadlineExceeded:
        """Return the error of a call whose time is up."""
        detail = f"no answer within {self.timeout_s:g} s"
        return DeadlineExceeded(f"{address}: {detail}", code="deadline_exceeded", detail=detail)


class RetryBudget:
    """Retries of one client: a tenth of its calls, and ten more at the start.

    A server that is in trouble gets at most 1.1 times the load, however many clients retry. Thread-safe.
    """

    def __init__(self, *, share: float = _SHARE, reserve: float = _RESERVE) -> None:
        self._share, self._most = share, reserve
        self._tokens = reserve
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """Count a call."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Count a retry, if one is left."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class Tries:
    """The tries of one call."""

    def __init__(
        self,
        repeat: Repeat,
        *,
        max_retries: int,
        budget: RetryBudget,
        deadline: Deadline,
        waits_when_busy: bool = True,
    ) -> None:
        """Begin a call.

        Args:
            repeat: whether the call may run twice
            max_retries: tries after the first
            budget: what the client's calls share
            deadline: the end of the call
            waits_when_busy: whether 429 is retried; a stream of calls has its own answer to it
        """
        self._repeat, self._left, self._budget = repeat, max_retries, budget
        self._deadline, self._waits_when_busy = deadline, waits_when_busy
        self._number = 0
        budget.deposit()

    def delay_s(self, error: SuperposError) -> float | None:
        """Return the seconds to wait before the next try; None if the error is final.

        The wait is drawn from 0 to 0.5 s, doubled with each try (full jitter), and at least what the server asks for.
        It never goes beyond the deadline: the error is then final at once.
        """
        if self._left == 0 or not self._may_repeat(error):
            return None
        delay = random.uniform(0, min(_MAX_DELAY_S, _FIRST_DELAY_S * 2**self._number))
        delay += error.retry_after_s or 0.0
        if delay >= self._deadline.remaining_s or not self._budget.withdraw():
            return None
        self._left -= 1
        self._number += 1
        return delay

    def _may_repeat(self, error: SuperposError) -> bool:
        if isinstance(error, RateLimited):
            return self._waits_when_busy
        if isinstance(error, Unreachable) and error.code == NOT_CONNECTED:
            return True
        if self._repeat == "unsent":
            return False
        if isinstance(error, ServerFault):
            return self._number == 0  # once: it would hardly be answered by more
        if isinstance(error, InvalidAnswer):
            return error.code == INVALID_ANSWER  # half of one, perhaps; a redirection stays one
        return isinstance(error, Unavailable) or (isinstance(error, DeadlineExceeded) and error.status is not None)
