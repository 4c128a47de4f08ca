"""What tests of tenants and keys build with: a clock that they turn, and ways to ask as somebody."""

import dataclasses
from datetime import UTC, datetime, timedelta


@dataclasses.dataclass
class Clock:
    """A time of day that goes on only when told."""

    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def bearer(key: str) -> dict[str, str]:
    """The headers that show a key."""
    return {"Authorization": f"Bearer {key}"}
