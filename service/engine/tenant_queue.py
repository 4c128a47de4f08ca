"""One tenant's rows in the scheduler."""

from collections import deque
from dataclasses import dataclass, field

from service.engine.types import Row


@dataclass(slots=True, eq=False)
class TenantQueue:
    """One tenant's rows in order of arrival."""

    start: float
    """Virtual time at which its next row is due."""
    rows: deque[Row] = field(default_factory=deque)
    num_tokens: int = 0
    bulk: bool = False
    """Whether more than a quarter of a batch has waited here at once since the queue was last empty."""

    def append(self, row: Row) -> None:
        self.rows.append(row)
        self.num_tokens += row.num_tokens

    def pop(self) -> Row:
        row = self.rows.popleft()
        self.num_tokens -= row.num_tokens
        return row

    def remove_dead(self, now: float) -> tuple[int, list[Row]]:
        """Remove cancelled and expired rows; return how many they are, and those that expired."""
        count, expired = len(self.rows), []
        for row in [self.pop() for _ in range(count)]:
            if row.cancelled():
                continue
            if row.deadline <= now:
                expired.append(row)
            else:
                self.append(row)
        return count - len(self.rows), expired
