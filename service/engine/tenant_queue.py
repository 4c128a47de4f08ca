"""One tenant's rows in the scheduler."""

from collections import deque
from dataclasses import dataclass, field

from service.engine.types import Row, RowGroup


@dataclass(slots=True, eq=False)
class TenantQueue:
    """One tenant's groups of rows in order of arrival."""

    start: float
    """Virtual time at which its next group is due."""
    groups: deque[RowGroup] = field(default_factory=deque)
    num_tokens: int = 0
    bulk: bool = False
    """Whether more than a quarter of a batch has waited here at once since the queue was last empty."""

    def append(self, group: RowGroup) -> None:
        self.groups.append(group)
        self.num_tokens += group.num_tokens

    def pop(self) -> RowGroup:
        group = self.groups.popleft()
        self.num_tokens -= group.num_tokens
        return group

    def remove_dead(self, now: float) -> tuple[int, list[Row]]:
        """Remove cancelled and expired groups; return how many they are, and the rows of those that expired."""
        count, expired = len(self.groups), []
        for group in [self.pop() for _ in range(count)]:
            if group.cancelled():
                continue
            if group.deadline <= now:
                expired += group.live()
            else:
                self.append(group)
        return count - len(self.groups), expired
