"""A row for the scheduler's tests."""

from dataclasses import dataclass

LATER = 1_000.0


@dataclass(eq=False)
class Row:
    """A row that waits."""

    num_tokens: int
    deadline: float = LATER
    gone: bool = False
    tenant: str = "a"
    weight: float = 1.0
    background: bool = False

    def cancelled(self) -> bool:
        return self.gone
