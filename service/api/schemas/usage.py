"""The JSON and the CSV of `/usage`."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Self

from pydantic import BaseModel

from service.monitoring.usage import UsageRow

_NUMBERS = ("requests", "rows", "tokens", "errors")
_COLUMNS = ("tenant", "task", "day", *_NUMBERS)


class UsageNumbers(BaseModel):
    """What was asked, and what it cost."""

    requests: int
    rows: int
    """Answered with a prediction."""
    tokens: int
    """Packed tokens that the model computed."""
    errors: int


class UsageRowBody(UsageNumbers):
    """One task's day."""

    task: str | None
    """Null for requests that asked no task that exists."""
    day: date
    """UTC."""


class UsageBody(BaseModel):
    """A tenant's usage, of all replicas together."""

    tenant: str
    since: date
    until: date
    """Included."""
    total: UsageNumbers
    usage: list[UsageRowBody]

    @classmethod
    def of(cls, tenant: str, rows: Sequence[UsageRow], *, since: date, until: date) -> Self:
        """The rows with their sum."""
        total = UsageNumbers(**{name: sum(getattr(row, name) for row in rows) for name in _NUMBERS})
        usage = [UsageRowBody(**asdict(row)) for row in rows]
        return cls(tenant=tenant, since=since, until=until, total=total, usage=usage)


def usage_csv(rows: Sequence[UsageRow]) -> str:
    """A header and a line a row (RFC 4180); the task is empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
