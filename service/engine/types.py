"""Values of the engine: a row with the future of its scores, statistics of a batch, state of the engine."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from adapters import DEFAULT_TENANT
from backbone import Precision
from service.catalog.adapter_cache import LoadedAdapter

RowScores = NDArray[np.float32]  # [K] log-probabilities in the order of the adapter's labels


@dataclass(slots=True, eq=False)
class Row:
    """One tokenized text to be classified by one adapter, and the future of its scores. Submit it once."""

    adapter: LoadedAdapter
    token_ids: tuple[int, ...]
    deadline: float
    """On the clock of `time.monotonic`."""
    tenant: str = DEFAULT_TENANT
    weight: float = 1.0
    """The tenant's weight in fair queuing, above 0."""
    top_k: int | None = None
    """How many of the best labels to score, None for all."""
    background: bool = False
    """Runs only while no other row waits."""

    leader: "Row | None" = field(init=False, repr=False, default=None)
    """The row with which this one shares its encoder pass (`share_texts`); None if it has a pass of its own."""
    num_tokens: int = field(init=False)
    """Packed tokens that the row adds to a batch, plus an upper bound for its labels (`LabelTrie.cost`)."""
    spent_tokens: int = field(init=False, default=0)
    """Tokens of the row's earlier batches, if its search was exhausted."""
    future: Future[RowScores] = field(init=False, repr=False, default_factory=Future)
    submitted: float = field(init=False, default=0.0)
    """On the clock of `time.monotonic`, as the next two are durations on it; the engine sets all three."""
    queue_s: float = field(init=False, default=0.0)
    """From submission to the start of its batch."""
    infer_s: float = field(init=False, default=0.0)
    """From the start of its batch until its scores were known."""

    def __post_init__(self) -> None:
        self._count_tokens()

    def _count_tokens(self) -> None:
        labels = self.adapter.readout.cost(self.top_k)
        if self.leader is None:
            self.num_tokens = self.adapter.num_virtual_tokens + len(self.token_ids) + max(0, labels - 1)
        else:
            self.num_tokens = max(1, labels)

    def follow(self, leader: "Row | None") -> None:
        """Share the encoder pass of another row, or of none; a follower adds only its labels, at least one token."""
        self.leader = leader
        self._count_tokens()

    def score_all(self) -> None:
        """Ask for the scores of all labels from now on, in another batch."""
        self.spent_tokens += self.num_tokens
        self.top_k = None
        self._count_tokens()

    @property
    def total_tokens(self) -> int:
        """Tokens of all of the row's batches."""
        return self.spent_tokens + self.num_tokens

    def cancelled(self) -> bool:
        """Return whether no answer is needed any more: the caller left, or the row was refused."""
        return self.future.done()


def share_texts(rows: Sequence[Row]) -> None:
    """Let each row without a prompt follow the first such row with the same text and precision, and no other.

    Args:
        rows: rows of one tenant and one request that are about to be submitted together
    """
    leaders: dict[tuple[Precision, tuple[int, ...]], Row] = {}
    for row in rows:
        if row.adapter.num_virtual_tokens == 0:
            leader = leaders.setdefault((row.adapter.precision, row.token_ids), row)
            row.follow(None if leader is row else leader)


@dataclass(frozen=True, slots=True, eq=False)
class RowGroup:
    """A row and those that share its encoder pass, all of one request. A batch has all of them or none."""

    rows: Sequence[Row]
    num_tokens: int
    """Tokens that the group adds to a batch."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "list[RowGroup]":
        """Group rows by their leader, in the order of the leaders."""
        groups: dict[Row, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.leader or row, []).append(row)
        return [cls(group, sum(row.num_tokens for row in group)) for group in groups.values()]

    @property
    def tenant(self) -> str:
        return self.rows[0].tenant

    @property
    def weight(self) -> float:
        return self.rows[0].weight

    @property
    def deadline(self) -> float:
        """On the clock of `time.monotonic`."""
        return self.rows[0].deadline

    @property
    def background(self) -> bool:
        return self.rows[0].background

    def cancelled(self) -> bool:
        """Return whether no row needs an answer any more."""
        return all(row.cancelled() for row in self.rows)

    def live(self) -> list[Row]:
        """Return the rows that need an answer."""
        return [row for row in self.rows if not row.cancelled()]


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Statistics of one batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    num_trips: int
    """Adapters that the circuit breaker tripped because of this batch."""
    infer_s: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Result of the self-test."""

    rows: int
    batches: int
    max_difference: float
    """The largest |Δ log p| of a row between running alone and in a batch; ∞ if a score was not finite."""
    tolerance: float

    @property
    def bit_identical(self) -> bool:
        return self.max_difference == 0

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.rows} rows in {self.batches} batches differ by up to {self.max_difference:.3g} in log-probability "
            f"from running alone; the tolerance is {self.tolerance:g}"
        )


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Snapshot of the engine's state."""

    alive: bool
    """The model thread is running."""
    not_ready: str | None
    """Why the engine would not answer a row now, None if it would."""
    failure: str | None
    """Why the model thread ended without being asked to."""
    busy_s: float
    """Duration of the current forward so far, 0 while the model thread is idle."""
    resident_adapters: int
    tripped_adapters: int
    self_test: SelfTest | None
    last_forward_age_s: float | None = None
    """Time since a forward last produced scores, of a caller's row or a probe; None until the self-test has ended."""
