"""What tests of the scheduler build with: rows, and a scheduler in which some wait."""

from dataclasses import dataclass

from service.engine.scheduler import Scheduler

BUDGET = 100
"""Tokens of a batch."""
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


def scheduler_of(*rows: Row, max_batch_tokens: int = BUDGET) -> Scheduler[Row]:
    """Rows that wait, in their order."""
    scheduler = Scheduler[Row](max_batch_tokens=max_batch_tokens)
    scheduler.put(rows)
    return scheduler
