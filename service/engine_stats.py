"""What the engine tells of itself: after each batch, and whenever it is asked."""

from dataclasses import dataclass

from service.self_test import SelfTest


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What the model thread tells after each batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    num_trips: int
    """Adapters that the circuit breaker tripped for this batch's failures."""
    infer_s: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine as a caller may look at it from any thread; a moment's values."""

    alive: bool
    """The model thread runs."""
    not_ready: str | None
    """Why no row would be answered now; None where rows are."""
    failure: str | None
    """Why the model thread ended, where nobody asked it to."""
    busy_s: float
    """How long the model thread has been at one forward; 0 while it waits for rows."""
    resident_adapters: int
    tripped_adapters: int
    self_test: SelfTest | None
    last_forward_age_s: float | None = None
    """Since a forward last gave scores, a caller's row or the model's own; None before the self-test has ended."""
